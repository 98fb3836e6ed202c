"""Zokio's tasks in gdb, of a live process and of a core file.

    gdb -x tools/zokio-gdb.py -p PID      or: gdb -x tools/zokio-gdb.py PROGRAM CORE
    (gdb) zk tasks        every task: number, worker, name and site, what it does or waits for
    (gdb) zk bt N         the backtrace of task N of that list

Reads memory only, so nothing in the process runs or changes. It finds tasks as core/dump.c does:
waiting ones through the records at the tops of the stacks, the others in the queues. Needs the
library's debug information. Backtraces of tasks that do not run go by frame pointers.
"""

import gdb

PENDING, QUEUED, STARTED, FINISHED, FOLDED = range(5)  # zk__task_state
SPAWNED = 1 << 2  # ZK__TASK_SPAWNED
ENTRY_SPAWNED, ENTRY_GONE = 1, 1  # of the run queue
CALLERS_MAX = 1000  # against circles in memory that is damaged
FRAMES_MAX = 64
# Kinds of waits: the type of what is waited on and its field with the task that holds it.
HOLDERS = {
    "mutex": ("zk_mutex", "zk__owner"),
    "lock for reading": ("zk_rwlock", "zk__writer"),
    "lock for writing": ("zk_rwlock", "zk__writer"),
    "once": ("zk_once", "zk__owner"),
}
CHANNEL_KINDS = {"channel receive": "sender", "channel send": "receiver"}  # who is at the other end
# A record lies at a multiple of this below its stack's end, and within a page: see core/stack.c.
SHIFT_BYTES, SHIFT_MAX = 64, 4096


class Task:
    def __init__(self, pointer, worker, state, wait=None, stack=None):
        self.pointer = pointer
        self.worker = worker
        self.state = state
        self.wait = wait
        self.stack = stack

    def site(self):
        return site_text(self.pointer)

    def describe(self):
        if self.state != "waits":
            return self.state
        kind = kind_name(self.wait)
        text = "waits for " + kind
        if kind in CHANNEL_KINDS:
            return text + f" ({channel_text(self.wait, kind)})"
        if kind in HOLDERS:
            holder = waited_object(self.wait, HOLDERS[kind][0])[HOLDERS[kind][1]]
            return text + (", held by " + site_text(holder) if int(holder) else "")
        return text


def site_text(task):
    try:
        return place_text(task["site"])
    except gdb.error:
        return "(unknown)"


def place_text(site):
    try:
        name, file = site["name"].string(), site["file"].string()
        return f"{name} ({file}:{int(site['line'])})" if file else name
    except gdb.error:
        return "(unknown)"


def kind_name(wait):
    kind = wait["kind"]
    return kind["name"].string() if int(kind) else "something"


def waited_object(wait, type_name):
    """What a task waits on in line: it begins with its guard."""
    waiting = wait.cast(gdb.lookup_type("zk__line_waiting").pointer())
    return waiting["guard"].cast(gdb.lookup_type(type_name).pointer())


def channel_text(wait, kind):
    channel = waited_object(wait, "zk_channel")
    count, capacity = int(channel["count"]), int(channel["capacity"])
    end = CHANNEL_KINDS[kind]
    other = channel[end]
    return (
        (f"{count} of {capacity} items, " if capacity else "rendezvous, ")
        + (f"last {end} {place_text(other)}" if int(other) else f"no {end} yet")
    )


def pointer_to(address, type_name):
    return gdb.Value(int(address)).cast(gdb.lookup_type(type_name).pointer())


def atomic(value):
    """The value of an _Atomic object, whichever way the compiler has described it."""
    return int(gdb.parse_and_eval(f"*(unsigned long *){int(value.address)}"))


def runtime():
    address = atomic(gdb.parse_and_eval("zk__runtime_running"))
    if not address:
        raise gdb.GdbError("no runtime is running")
    return pointer_to(address, "zk__runtime")


def linked(first, field="next"):
    while int(first):
        yield first
        first = first[field]


def stacks_of(worker):
    """The records of all stacks that have memory."""
    pool = worker["stacks"]
    size = gdb.lookup_type("zk__stack").sizeof
    stack_bytes = int(pool["stack_bytes"])
    for number, region in enumerate(linked(pool["regions"])):
        start = int(region["start"])
        end = int(pool["region_next"]) if number == 0 else start + int(region["bytes"])
        while start < end:
            for shift in range(0, SHIFT_MAX, SHIFT_BYTES):
                stack = pointer_to(start + stack_bytes - shift - size, "zk__stack")
                try:
                    is_it = int(stack["start"]) == start and int(stack["bytes"]) == stack_bytes
                except gdb.MemoryError:
                    is_it = False  # a core file leaves out what was never touched
                if is_it:
                    yield stack
                    break
            start += stack_bytes
    yield from linked(pool["specials"], "special_next")


def ready_tasks(worker):
    """Of spawned ones that have no memory yet their records."""
    yield from linked(worker["lane"]["pending"])
    yield from linked(worker["urgent"])
    mask, head, tail = (int(worker[name]) for name in ("ring_mask", "head", "tail"))
    while head != tail:
        entry = int(worker["ring"][head & mask])
        if not entry & ENTRY_SPAWNED:
            yield pointer_to(entry, "zk_task")
        elif entry != ENTRY_GONE:
            yield worker["records"][head & mask].address
        head = (head + 1) & 0xFFFFFFFF
    yield from linked(worker["overflow"])


def callers(task, worker, stack):
    """The tasks that have called this one in place: they lie below it on its stack."""
    for _ in range(CALLERS_MAX):
        if int(task["flags"]) & SPAWNED or int(task["is_selected"]):
            return
        caller = task["awaiter"]
        if not int(caller):
            return
        if int(caller["state"]) == STARTED and int(caller["stack"]) != int(stack):
            return
        yield Task(caller, worker, "awaits " + site_text(task))
        task = caller


def tasks_of(worker):
    index = int(worker["index"])
    idle = {int(worker["stack"])}
    idle.update(int(worker["loops"][i]) for i in range(int(worker["loop_count"])))
    idle.update(int(stack) for stack in linked(worker["dead"]))
    current = worker["lane"]["current"]
    if int(current) != int(worker["root_task"].address):
        yield Task(current, index, "running")
        yield from callers(current, index, worker["stack"])
    for task in ready_tasks(worker):
        is_record = task.type.target().name == "zk__record"
        if not is_record and int(task["state"]) == FOLDED:
            continue
        if is_record or int(task["state"]) != STARTED:
            yield Task(task, index, "queued")
            continue
        idle.add(int(task["stack"]))
        yield Task(task, index, "ready", stack=task["stack"])
        yield from callers(task, index, task["stack"])
    for stack in stacks_of(worker):
        wait = stack["wait"]
        if int(wait) and int(stack) not in idle:
            yield Task(wait["task"], index, "waits", wait, stack)
            yield from callers(wait["task"], index, stack)


def workers():
    rt = runtime()
    return [rt["workers"][i] for i in range(int(rt["worker_count"]))]


def all_tasks():
    return [task for worker in workers() for task in tasks_of(worker)]


def frames_of(task):
    """The instructions of a task that does not run, from where it was left outwards."""
    word = gdb.lookup_type("unsigned long").pointer()
    saved = task.pointer["sp"].cast(word)
    is_arm = "aarch64" in gdb.selected_inferior().architecture().name()
    pc, frame = (int(saved[1]), int(saved[0])) if is_arm else (int(saved[0]), int(saved[2]))
    low = int(task.stack["base"])
    high = low + int(task.stack["size"])
    frames = [pc]
    while len(frames) < FRAMES_MAX and low <= frame <= high - 16 and frame % 8 == 0:
        words = gdb.Value(frame).cast(word)
        if not int(words[1]):
            break
        frames.append(int(words[1]))
        low, frame = frame + 1, int(words[0])
    return frames


def frame_text(pc):
    block = gdb.block_for_pc(pc - 1)
    while block is not None and block.function is None:
        block = block.superblock
    name = block.function.name if block is not None else "??"
    line = gdb.find_pc_line(pc - 1)
    place = f" at {line.symtab.filename}:{line.line}" if line.symtab is not None else ""
    return f"0x{pc:016x} in {name}{place}"


class Zk(gdb.Command):
    """Zokio's tasks: `zk tasks`, `zk bt N`."""

    def __init__(self):
        super().__init__("zk", gdb.COMMAND_STACK, prefix=True)


class ZkTasks(gdb.Command):
    """Lists all tasks with what they do or wait for."""

    def __init__(self):
        super().__init__("zk tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for number, task in enumerate(all_tasks(), 1):
            print(f"{number:4}  worker {task.worker}  {task.site()}  {task.describe()}")


class ZkBt(gdb.Command):
    """Shows the backtrace of a task, by its number in `zk tasks`."""

    def __init__(self):
        super().__init__("zk bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        tasks = all_tasks()
        if not argument.isdigit() or not 0 < int(argument) <= len(tasks):
            raise gdb.GdbError(f"zk bt N: N is 1 to {len(tasks)}")
        task = tasks[int(argument) - 1]
        print(f"task {task.site()}: {task.describe()}")
        if task.stack is not None:
            for number, pc in enumerate(frames_of(task)):
                print(f"#{number:<3} {frame_text(pc)}")
        elif task.state == "running":
            print(f"it runs on the thread of worker {task.worker}: use gdb's own bt there")
        elif task.state == "queued":
            print("it has not started")
        else:
            print("it lies on the stack of the task that it awaits: see that one")


Zk()
ZkTasks()
ZkBt()
