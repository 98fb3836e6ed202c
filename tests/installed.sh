# Sourced by tests/install and tests/readme: installs a build into a folder that is thrown away.
#
#   install_zokio BUILD    sets $work and $prefix, and points pkg-config to the copy
#   link_flags shared|static    what a user's link line needs

install_zokio() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    meson install -C "$1" --no-rebuild --quiet --destdir "$work/shared" >"$work/log" 2>&1 || {
        cat "$work/log"
        exit 1
    }
    # A linker that finds both takes the shared one: the second copy has only the static one.
    cp -a "$work/shared" "$work/static"
    find "$work/static" -name 'libzokio.so*' -delete
    local pc
    pc=$(cd "$work/shared" && find . -name zokio.pc)
    pc_dir=$(dirname "${pc#.}")
    prefix=${pc_dir%/lib*}
    unset LD_LIBRARY_PATH
}

pkg() {
    local kind=$1
    shift
    PKG_CONFIG_PATH="$work/$kind$pc_dir" pkg-config --define-variable=prefix="$work/$kind$prefix" \
        "$@" zokio
}

compile_flags() {
    pkg shared --cflags
}

link_flags() {
    if [ "$1" = static ]; then
        pkg static --static --libs
    else
        echo "$(pkg shared --libs) -Wl,-rpath,$(pkg shared --variable=libdir)"
    fi
}
