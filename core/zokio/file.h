/*
 * Files and directories.
 *
 * The kernel has no way to wait for a disk without a thread, so these calls run on the threads of
 * zk_blocking and their task waits; a read that the page cache can answer is done in place. A call
 * that has begun is waited for even when the scope is cancelled: it is done or not done, its
 * buffer is the caller's again when it returns, and what it opened is closed or handed over. So
 * each function that suspends may also return what zk_blocking does: -ECANCELED, -ETIMEDOUT (not
 * begun), -EAGAIN (no thread can be had), -ENOMEM, and ZK_E_NO_RUNTIME outside zk_run.
 *
 * They are made for regular files. Opening a FIFO, or reading from a terminal, holds one of the
 * pool's threads for as long as it takes: see zk_stream_from_fd for those.
 */
#ifndef ZOKIO_FILE_H
#define ZOKIO_FILE_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <zokio/base.h>

ZK_BEGIN

/* ---- an open file ---------------------------------------------------------------------------- */

/** An open file. Any worker may use it, and several tasks at once where the offset is given. */
typedef struct zk_file zk_file;

/**
 * Opens a file. The descriptor is closed on exec. Suspends always.
 *
 * @param flags  as open(2) has them: O_RDONLY, O_RDWR | O_CREAT, ...
 * @param mode   of a file that is created; less the umask
 * @return 0; the errors of open(2): -ENOENT, -EACCES, -EISDIR, -EMFILE, ...
 */
ZK_API int zk_file_open(const char *path, int flags, mode_t mode, zk_file **ret_file) ZK_NODISCARD;

/**
 * Closes and frees the file, in a cancelled scope too; NULL is allowed. No task may be using it.
 * Suspends always.
 *
 * @return 0; -EIO, -EDQUOT, -ENOSPC: the file system could not keep what was written. The file is
 *   closed all the same.
 */
ZK_API int zk_file_close(zk_file *file);

/**
 * Reads up to `size` bytes from where the last read or write ended. Suspends unless the page cache
 * has them. One task at a time.
 *
 * @return bytes read, maybe fewer than asked for; 0 at the end of the file, or when size is 0; the
 *   errors of read(2)
 */
ZK_API ssize_t zk_file_read(zk_file *file, void *buf, size_t size) ZK_NODISCARD;

/** Reads from `offset`, and does not move where zk_file_read goes on. As zk_file_read otherwise. */
ZK_API ssize_t zk_file_read_at(zk_file *file, void *buf, size_t size, int64_t offset) ZK_NODISCARD;

/**
 * Writes all of `size` bytes from where the last read or write ended; with O_APPEND at the end of
 * the file. Suspends always. One task at a time.
 *
 * @return 0; the errors of write(2), as -ENOSPC: part of it may have been written
 */
ZK_API int zk_file_write(zk_file *file, const void *data, size_t size) ZK_NODISCARD;

/** Writes all of `size` bytes at `offset`. As zk_file_write otherwise. */
ZK_API int zk_file_write_at(zk_file *file, const void *data, size_t size, int64_t offset)
    ZK_NODISCARD;

/** Size, times, kind and mode. Suspends always. @return 0; the errors of fstat(2) */
ZK_API int zk_file_stat(zk_file *file, struct stat *ret_stat);

/** Cuts the file to `size` bytes, or extends it by zeros. Suspends always. @return 0; the errors of
 * ftruncate(2) */
ZK_API int zk_file_truncate(zk_file *file, int64_t size) ZK_NODISCARD;

/**
 * Waits until the file's data and metadata would survive a loss of power. Suspends always. @return
 * 0; -EIO: something that was written before is lost
 */
ZK_API int zk_file_sync(zk_file *file) ZK_NODISCARD;

/** As zk_file_sync, without metadata that reading does not need, such as times. */
ZK_API int zk_file_sync_data(zk_file *file) ZK_NODISCARD;

/* ---- whole files ----------------------------------------------------------------------------- */

/**
 * Reads a whole file. A NUL, not counted, stands behind the data. Suspends always.
 *
 * @param bytes_max  larger files are refused
 * @param ret_data   to be freed with zk_free
 * @return 0; ZK_E_LIMIT; -ENOENT, -EISDIR and other system errors
 */
ZK_API int zk_file_read_all(const char *path, size_t bytes_max, char **ret_data, size_t *ret_size)
    ZK_NODISCARD;

/** How zk_file_write_all writes. Zero-initialised: mode 0666 less the umask, not synced. */
typedef struct zk_write_options {
    mode_t mode;    /* of the new file, less the umask; 0: 0666 */
    bool is_synced; /* once it returns 0, the new content survives a loss of power */
} zk_write_options;

/**
 * Replaces a file's content, or creates the file, in one step: who opens it sees the old content or
 * the new, never a part. The data is written to a new file in the same directory which then takes
 * the name; so mode, owner and hard links are those of a new file, and a symbolic link is
 * replaced. On failure the old file is as it was. Suspends always.
 *
 * @param options  NULL for the defaults
 * @return 0; -ENOENT (the directory), -EACCES, -ENOSPC, -EISDIR and other system errors;
 *   -ENAMETOOLONG. After an error of syncing the directory the new content is there, maybe not for
 *   good.
 */
ZK_API int zk_file_write_all(const char *path, const void *data, size_t size,
                             const zk_write_options *options) ZK_NODISCARD;

/* ---- names ----------------------------------------------------------------------------------- */

/** What the path leads to, symbolic links followed. Suspends always. @return 0; the errors of
 * stat(2) */
ZK_API int zk_path_stat(const char *path, struct stat *ret_stat);

/** As zk_path_stat, of a symbolic link itself. */
ZK_API int zk_path_link_stat(const char *path, struct stat *ret_stat);

/** Removes a name that is no directory's. Suspends always. @return 0; the errors of unlink(2) */
ZK_API int zk_path_unlink(const char *path);

/** Renames; what has the new name is replaced. Suspends always. @return 0; the errors of
 * rename(2) */
ZK_API int zk_path_rename(const char *from, const char *to);

/** Makes a directory, its mode less the umask. Suspends always. @return 0; the errors of
 * mkdir(2) */
ZK_API int zk_path_make_dir(const char *path, mode_t mode);

/** Removes an empty directory. Suspends always. @return 0; the errors of rmdir(2) */
ZK_API int zk_path_remove_dir(const char *path);

/* ---- directories ----------------------------------------------------------------------------- */

/** A directory being read, maybe with those below it. One task at a time. */
typedef struct zk_dir zk_dir;

typedef enum zk_file_kind {
    ZK_KIND_FILE,
    ZK_KIND_DIR,
    ZK_KIND_LINK,  /* symbolic; never followed */
    ZK_KIND_OTHER, /* device, socket, FIFO */
} zk_file_kind;

/** What zk_dir_next finds. The texts live until the next call, or zk_dir_close. */
typedef struct zk_dir_entry {
    const char *path; /* begins with the path given to zk_dir_open */
    const char *name; /* its last component */
    zk_file_kind kind;
    int depth; /* 0: directly in the directory opened */
} zk_dir_entry;

/** How many levels of directories zk_dir_open enters when asked for all. */
#define ZK_DIR_DEPTH_MAX 128

/**
 * Opens a directory to list what is in it, and in the directories below it as far as asked for.
 * Suspends always. Each level that is being read has a descriptor open.
 *
 * @param depth_max  how many levels of directories below it are entered: 0 none, -1 all, though
 *   below ZK_DIR_DEPTH_MAX levels the walk reports ZK_E_LIMIT. Others are listed, not entered.
 * @return 0; -ENOENT, -ENOTDIR, -EACCES and other errors of open(2)
 */
ZK_API int zk_dir_open(const char *path, int depth_max, zk_dir **ret_dir) ZK_NODISCARD;

/**
 * The next entry, in no order but that a directory comes before what is in it. "." and ".." are
 * left out. Suspends sometimes: entries are fetched many at a time.
 *
 * An error of one directory below (-EACCES, ZK_E_LIMIT, -ENAMETOOLONG) is returned once, with the
 * beginning of its path in zk_trail, and the calls after it go on with the rest; one that has
 * vanished meanwhile is no error. An entry that appears or goes meanwhile is found or not.
 *
 * @return 1; 0 at the end; -errno, ZK_E_LIMIT as above, -ECANCELED, -ETIMEDOUT (no entry is lost)
 */
ZK_API int zk_dir_next(zk_dir *dir, zk_dir_entry *ret_entry) ZK_NODISCARD;

/** Closes and frees; NULL is allowed. Never suspends. */
ZK_API void zk_dir_close(zk_dir *dir);

ZK_END
#endif
