// Joins namespaces before the Go runtime starts: a multithreaded process may not
// change its user namespace (setns(2), EINVAL), and Go has threads from its first
// instruction on. ARCHITECTURE.md, "userns/enter.c", describes the interface:
//
//   _MOSS_JOIN=<fd>:<hex setns flags>[:cwd][:fork:<fd>]   join what fd refers to
//   _MOSS_PAUSE=1                                         become the pause process
//   _MOSS_TERMINAL=1                                      keep a terminal's settings
//   neither, and not moss-runtime                         join through <run>/pause,
//                                                         and start a monitor ahead
//
// In the common case, the last, this makes 19 system calls, and a dozen more for
// the monitor.
#define _GNU_SOURCE
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

int moss_enter_joined;
int moss_enter_lost_cwd;
int moss_enter_below;
int moss_enter_monitor = -1, moss_enter_monitor_pid;
char moss_enter_monitor_home[PATH_MAX], moss_enter_monitor_id[65];

// die ends a process that was told to join and cannot: going on outside the
// namespaces would run the command on the host.
static void die(const char *what)
{
	const char *cause = strerror(errno);
	dprintf(2, "moss: cannot %s: %c%s\n", what, cause[0] | 0x20, cause + 1); // lower case
	_exit(125);
}

// take returns the value of an environment variable and hides it from Go and
// from every child. unsetenv would not do: it closes the gap in the array on the
// stack, and Go, which finds the auxiliary vector behind it, would lose its way.
static const char *take(const char *name)
{
	char *value = getenv(name);
	if (value)
		value[-1 - (long)strlen(name)] = '\0';
	return value;
}

static int is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(word, *list))
			return 1;
	return 0;
}

// The flags before the verb whose value is the next word.
static const char *const with_value[] = {"--cgroup-manager", "--log-level", "--registries-conf", "--root", "--runroot", "--runtime", "--volume-path", "--volumepath", NULL};

// The lists are those of userns/verbs.go; a test compares them.
int moss_enter_skips(int argc, char **argv)
{
	static const char *const verbs[] = {"version", "help", "completion", "doctor", "man", "config", "login", "logout", "search", NULL};
	static const char *const answers[] = {"--help", "-h", "--version", "-v", NULL};

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] != '-')
			return is_one_of(argv[i], verbs) ||
			       (!strcmp(argv[i], "image") && i + 1 < argc && !strcmp(argv[i + 1], "scp"));
		if (is_one_of(argv[i], answers))
			return 1;
		if (is_one_of(argv[i], with_value))
			i++;
	}
	return 1; // no verb: moss shows its help
}

// read_file reads a small file into buf as a string; -1 if there is none.
// With owned it must be a regular file that only we can write.
static ssize_t read_file(const char *path, char *buf, size_t size, int owned)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | (owned ? O_NOFOLLOW | O_NONBLOCK : 0));
	if (fd < 0)
		return -1;
	ssize_t n = -1;
	if (!owned || (!fstat(fd, &st) && S_ISREG(st.st_mode) &&
		       st.st_uid == geteuid() && !(st.st_mode & 022)))
		n = read(fd, buf, size - 1);
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

// start_time returns field 22 of /proc/PID/stat, 0 if the process has ended.
// The second field, the name, may hold blanks and parentheses: proc(5).
static unsigned long long start_time(long pid)
{
	char path[64], buf[1024];
	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	if (read_file(path, buf, sizeof buf, 0) <= 0)
		return 0;
	char *p = strrchr(buf, ')');
	if (!p || p[1] == '\0' || p[2] == 'Z' || p[2] == 'X')
		return 0;
	for (int field = 2; field < 22 && p; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static int is_own_dir(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

// host_uid is our user ID outside of a user namespace in which we are root.
static unsigned host_uid(void)
{
	char buf[256];
	unsigned inside, outside;
	unsigned uid = geteuid();
	if (uid == 0 && read_file("/proc/self/uid_map", buf, sizeof buf, 0) > 0 &&
	    sscanf(buf, "%u %u", &inside, &outside) == 2 && inside == 0)
		return outside;
	return uid;
}

// run_root is the value of --runroot before the verb.
static const char *run_root(int argc, char **argv)
{
	for (int i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strncmp(argv[i], "--runroot=", 10))
			return argv[i] + 10;
		if (!strcmp(argv[i], "--runroot"))
			return i + 1 < argc ? argv[i + 1] : NULL;
		if (is_one_of(argv[i], with_value))
			i++;
	}
	return NULL;
}

// pause_path finds the run directory by the rules of userns.FindDirs.
static int pause_path(char *path, size_t size, const char *dir)
{
	if (!dir)
		dir = getenv("MOSS_RUN");
	if (dir && *dir)
		return (size_t)snprintf(path, size, "%s/pause", dir) < size;

	dir = getenv("XDG_RUNTIME_DIR");
	if (dir && *dir == '/' && is_own_dir(dir))
		return (size_t)snprintf(path, size, "%s/moss/pause", dir) < size;

	unsigned uid = host_uid();
	snprintf(path, size, "/run/user/%u", uid);
	dir = getenv("RUNTIME_DIRECTORY");
	if (is_own_dir(path)) {
		snprintf(path, size, "/run/user/%u/moss/pause", uid);
	} else {
		char first[PATH_MAX];
		snprintf(first, sizeof first, "%.*s", dir ? (int)strcspn(dir, ":") : 0, dir ? dir : "");
		if (*first == '/' && is_own_dir(first))
			return (size_t)snprintf(path, size, "%s/moss/pause", first) < size;
		snprintf(path, size, "/tmp/moss-%u/pause", uid);
	}
	return 1;
}

// signed_as compares a file with mtime in nanoseconds, size and inode; a missing
// file is three zeros.
static int signed_as(const char *path, const unsigned long long *want)
{
	struct stat st;
	if (stat(path, &st))
		return !want[0] && !want[1] && !want[2];
	return want[0] == st.st_mtim.tv_sec * 1000000000ULL + st.st_mtim.tv_nsec &&
	       want[1] == (unsigned long long)st.st_size &&
	       want[2] == (unsigned long long)st.st_ino;
}

static int same_user_namespace(long pid)
{
	char path[64];
	struct stat own, other;
	snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
	return !stat("/proc/self/ns/user", &own) && !stat(path, &other) &&
	       own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

// join enters the namespaces and, if asked, keeps the working directory: setns
// to a mount namespace moves it to that namespace's root.
static int join(int fd, int flags, int keep_cwd)
{
	char cwd[PATH_MAX];
	int known = keep_cwd && getcwd(cwd, sizeof cwd) && cwd[0] == '/';
	if (setns(fd, flags) < 0)
		return -1;
	if (!keep_cwd)
		return 0;
	if (!known || chdir(cwd) < 0) {
		moss_enter_lost_cwd = 1;
		if (chdir("/") < 0)
			return -1;
	}
	// Under newgrp(1) the group is another one than at the start of the
	// namespace and has no name here: overlayfs would refuse to create files.
	// Changing it takes dumpability away, see prctl(2).
	if ((flags & CLONE_NEWUSER) && getegid() != 0 && !setresgid(0, 0, 0))
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return 0;
}

static void start_monitor(const char *pause, int argc, char **argv);

// auto_join is the way of every moss but the first. Whatever does not fit is
// left to userns.Enter, which knows how to mend it.
static void auto_join(int argc, char **argv)
{
	static const char *const starting[] = {"run", "start", NULL};
	const char *run = run_root(argc, argv);
	static char path[PATH_MAX];
	char line[512];
	if (!pause_path(path, sizeof path, run) || read_file(path, line, sizeof line, 1) <= 0)
		return;

	enum { protocol, pid, start, subuid, subgid = subuid + 3, count = subgid + 3 };
	unsigned long long n[count];
	char *p = line;
	for (int i = 0; i < count; i++) {
		char *end;
		n[i] = strtoull(p, &end, 10);
		if (end == p)
			return;
		p = end;
	}

	// The pidfd first: if the process whose start time is read after that is
	// the one we want, so is the pidfd's, whatever happens in between.
	int fd = syscall(SYS_pidfd_open, (pid_t)n[pid], 0);
	if (fd < 0)
		return;
	if (start_time(n[pid]) == n[start]) {
		if (n[protocol] == MOSS_ENTER_PROTOCOL && signed_as("/etc/subuid", n + subuid) &&
		    signed_as("/etc/subgid", n + subgid) &&
		    !join(fd, CLONE_NEWUSER | CLONE_NEWNS, 1))
			moss_enter_joined = 1;
		else if (geteuid() == 0 && same_user_namespace(n[pid]))
			moss_enter_joined = moss_enter_below = 1; // below "moss unshare"
	}
	close(fd);
	if (moss_enter_joined && argc > 1 && is_one_of(argv[1], starting))
		start_monitor(path, argc, argv);
}

// fork_into makes the process that goes on: only children enter a PID namespace.
// With CLONE_PARENT it is a child of our parent, who learns its PID from fd.
static void fork_into(int fd)
{
	// From its first moment on the child is seen by what runs in the joined PID
	// namespace: that shall not open /proc/PID/fd or trace it. See prctl(2).
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#if defined(__s390x__)
	int pid = syscall(SYS_clone, 0, CLONE_PARENT | SIGCHLD, 0, 0, 0);
#else
	int pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
#endif
	if (pid < 0)
		die("fork into the joined namespaces");
	if (pid > 0)
		_exit(write(fd, &pid, sizeof pid) == sizeof pid ? 0 : 125);
	close(fd);
}

// join_told obeys _MOSS_JOIN and returns the flags that it joined by.
static int join_told(const char *how)
{
	char *end;
	int fd = strtol(how, &end, 10), flags = 0, keep_cwd = 0, fork_fd = -1;
	if (*end == ':')
		flags = strtol(end + 1, &end, 16);
	if (!strncmp(end, ":cwd", 4)) {
		keep_cwd = 1;
		end += 4;
	}
	if (!strncmp(end, ":fork:", 6))
		fork_fd = strtol(end + 6, &end, 10);
	if (*end || !flags) {
		errno = EINVAL;
		die("read _MOSS_JOIN");
	}
	// Joining the user namespace that one is in is refused: setns(2).
	if (join(fd, flags, keep_cwd) &&
	    (errno != EINVAL || !(flags & CLONE_NEWUSER) || flags == CLONE_NEWUSER ||
	     join(fd, flags & ~CLONE_NEWUSER, keep_cwd)))
		die("join the namespaces");
	close(fd);
	moss_enter_joined = 1;
	if (fork_fd >= 0)
		fork_into(fork_fd);
	return flags;
}

// The conversation with userns.spawn over descriptor 3, SOCK_SEQPACKET:
//
//   moss                     moss-pause
//            ◀── {unshared}          (not when it joins old namespaces)
//   'M'      ──▶                     the ID maps are written
//            ◀── {ready, 0, PID}     or {step, errno} of what failed
enum step { step_unshare = 1, step_mount, step_fork, step_ready, step_unshared };
enum { control = 3 };

static void report(int step, int error, int pid)
{
	int32_t message[3] = {step, error, pid};
	if (send(control, message, sizeof message, MSG_NOSIGNAL) < 0 || error)
		_exit(1);
}

// keep_namespaces is the pause process: it survives the terminal it was started
// from, holds nothing open, and ends by SIGTERM or SIGKILL.
static void keep_namespaces(void)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	setsid();
	if (chdir("/") < 0)
		_exit(1);
	prctl(PR_SET_NAME, "moss-pause", 0, 0, 0);
	// Who may not ptrace us may not join our namespaces either: setns(2).
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (syscall(SYS_close_range, 0, ~0U, 0))
		for (int fd = 0; fd < 1024; fd++)
			close(fd);
	for (;;)
		pause();
}

static void become_pause(int joined)
{
	if (!joined) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			report(step_unshare, errno, 0);
		report(step_unshared, 0, 0);
		char go;
		if (recv(control, &go, 1, 0) != 1)
			_exit(1); // moss could not write the maps
	} else if (!(joined & CLONE_NEWNS) && unshare(CLONE_NEWNS) < 0) {
		report(step_unshare, errno, 0);
	}

	// Slave: what the host mounts later appears here. Shared: what is mounted
	// here can reach containers that ask for it (-v …:rslave, rshared).
	if (!(joined & CLONE_NEWNS) &&
	    (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	     mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0))
		report(step_mount, errno, 0);

	// A child of ours, whom init adopts: moss must not have to reap it.
	pid_t pid = fork();
	if (pid < 0)
		report(step_fork, errno, 0);
	if (pid == 0)
		keep_namespaces();
	report(step_ready, 0, pid);
	_exit(0);
}

// keep_terminal gives a terminal back its settings when moss, which has changed them,
// is killed: it is told both, and then waits for the end of the pipe or for a byte that
// says that moss has done so itself. If somebody else has changed them since, such as
// the shell that moss was killed from, they are left alone.
static void keep_terminal(void)
{
	enum { tty = 0, from_moss = 3, size = 64, told = 36 /* struct termios of the kernel */ };
	unsigned char was[size], raw[size], now[size];
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE};

	setsid(); // it is no job of the shell's
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "moss-terminal", 0, 0, 0);
	syscall(SYS_close_range, from_moss + 1, ~0U, 0);
	char byte;
	if (read(from_moss, was, size) != size || read(from_moss, raw, size) != size ||
	    read(from_moss, &byte, 1) != 0)
		_exit(0);
	if (!ioctl(tty, TCGETS, now) && !memcmp(now, raw, told))
		ioctl(tty, TCSETS, was);
	_exit(0);
}

// own_path is the path of this program, "" if it is not to be had.
static const char *own_path(void)
{
	static char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	path[n > 0 ? n : 0] = '\0';
	return path;
}

// monitor_path finds moss-monitor by the rules of rootless.Helper.
static int monitor_path(char *path, size_t size)
{
	const char *dir = getenv("MOSS_LIBEXEC");
	if (dir && *dir)
		return (size_t)snprintf(path, size, "%s/moss-monitor", dir) < size;
	const char *self = own_path(), *slash = strrchr(self, '/');
	if (!slash)
		return 0;
	int n = slash - self;
	if ((size_t)snprintf(path, size, "%.*s/moss-monitor", n, self) < size && !access(path, X_OK))
		return 1;
	return (size_t)snprintf(path, size, "%.*s/../libexec/moss/moss-monitor", n, self) < size && !access(path, X_OK);
}

// monitor_environ is what client.environment makes, which a test compares.
static char **monitor_environ(void)
{
	static const char *const names[] = {"PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
					    "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS", NULL};
	extern char **environ;
	size_t count = 0, n = 0;
	while (environ[count])
		count++;
	char **env = calloc(count + 3, sizeof *env);
	if (!env)
		return NULL;
	env[n++] = "GOMAXPROCS=2";
	env[n++] = "GODEBUG=asyncpreemptoff=1";
	for (size_t i = 0; i < count; i++) {
		char name[64];
		const char *equals = strchr(environ[i], '=');
		if (!equals || (size_t)(equals - environ[i]) >= sizeof name)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)(equals - environ[i]), environ[i]);
		if (!strncmp(name, "MOSS_", 5) || is_one_of(name, names))
			env[n++] = environ[i];
	}
	return env;
}

// is_id says whether a word is the ID of a container.
static int is_id(const char *word)
{
	return strlen(word) == 64 && strspn(word, "0123456789abcdef") == 64;
}

// known_id finds the ID of a container by its name, by the rules of rootless.Paths.
static int known_id(const char *name, char *id, size_t size)
{
	char path[PATH_MAX];
	const char *root = getenv("MOSS_ROOT"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int n = root && *root   ? snprintf(path, sizeof path, "%s/names/%s", root, name)
		: data && *data ? snprintf(path, sizeof path, "%s/moss/names/%s", data, name)
		: home && *home ? snprintf(path, sizeof path, "%s/.local/share/moss/names/%s", home, name)
				: -1;
	return n > 0 && (size_t)n < sizeof path && !strchr(name, '/') && read_file(path, id, size, 1) > 0 && is_id(id);
}

// new_id makes an ID.
static int new_id(char *id)
{
	unsigned char random[32];
	if (getrandom(random, sizeof random, 0) != sizeof random)
		return 0;
	for (size_t i = 0; i < sizeof random; i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	return 1;
}

// is_usual guesses whether a command line asks for the usual namespaces and
// streams. A wrong guess costs time: the monitor is told what is wanted.
static int is_usual(int argc, char **argv)
{
	static const char *const unusual[] = {"--net", "--pid", "--ipc", "--uts", "--user", "--uid", "--gid", "--as", "--cgroup",
					      "--runtime", "--rootfs", "--log-d", "--int", "--tty", "--att", "--pres", NULL};
	for (int i = 2; i < argc; i++) {
		const char *arg = argv[i];
		if (arg[0] != '-')
			continue;
		if (arg[1] != '-' && (strchr(arg, 'i') || strchr(arg, 't') || strchr(arg, 'a')))
			return 0;
		for (const char *const *u = unusual; *u; u++)
			if (!strncmp(arg, *u, strlen(*u)))
				return 0;
	}
	return 1;
}

// choose_id is the ID of the container that the command line will start, if that
// can be known: a new one for run, the one of a name for start.
static void choose_id(int argc, char **argv)
{
	char *id = moss_enter_monitor_id;
	if (!is_usual(argc, argv) ||
	    !(!strcmp(argv[1], "run") ? new_id(id) : argc == 3 && known_id(argv[2], id, sizeof moss_enter_monitor_id)))
		id[0] = '\0';
}

// has_monitor says whether the container that "moss start NAME" names has a monitor:
// it has been initialized, or it runs.
static int has_monitor(const char *pause, int argc, char **argv)
{
	char id[65], path[PATH_MAX];
	return argc == 3 && !strcmp(argv[1], "start") && known_id(argv[2], id, sizeof id) &&
	       (size_t)snprintf(path, sizeof path, "%.*sc/%.12s/ctl.sock", (int)(strlen(pause) - strlen("pause")), pause, id) < sizeof path &&
	       !access(path, F_OK);
}

// start_monitor starts a moss-monitor that waits for its container, in a cgroup
// that an earlier moss has written to <run>/monitors; the second line of that is
// where the containers' cgroups are, the third says that they are to be scopes. It gets ready on another processor while moss
// itself does, and makes the container's first process too where that can be
// guessed: see client.Ahead. If anything is not as expected there is none, and
// moss starts one later.
static void start_monitor(const char *pause, int argc, char **argv)
{
	char file[PATH_MAX], path[PATH_MAX], document[PATH_MAX], group[PATH_MAX * 2];
	int n = strlen(pause) - strlen("pause");
	snprintf(file, sizeof file, "%.*smonitors", n, pause);
	if (getenv("NOTIFY_SOCKET")) // of a service manager, which follows one in its own cgroup
		return;
	if (has_monitor(pause, argc, argv) || read_file(file, moss_enter_monitor_home, sizeof moss_enter_monitor_home, 1) < 0 ||
	    !monitor_path(path, sizeof path))
		return;
	char *groups = strchr(moss_enter_monitor_home, '\n');
	if (groups)
		*groups++ = '\0';
	char *scopes = groups ? strchr(groups, '\n') : NULL;
	if (scopes)
		*scopes = '\0';
	if (groups && *groups)
		choose_id(argc, argv);
	int born = *moss_enter_monitor_id &&
		   (size_t)snprintf(group, sizeof group, scopes ? "%s/moss-%s.scope" : "%s/%.12s", groups, moss_enter_monitor_id) < sizeof group &&
		   (size_t)snprintf(document, sizeof document, "%.*sc/%.12s/init.json", n, pause, moss_enter_monitor_id) < sizeof document;
	if (!born)
		*moss_enter_monitor_id = '\0';
	int cgroup = -1, sock[2];
	if (*moss_enter_monitor_home &&
	    (cgroup = open(moss_enter_monitor_home, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return;
	char **env = monitor_environ();
	if (!env || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		goto out;

	// struct clone_args of clone(2), up to cgroup.
	struct { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup; } args = {
		.flags = cgroup < 0 ? 0 : 0x200000000ULL /* CLONE_INTO_CGROUP */,
		.exit_signal = SIGCHLD, .cgroup = cgroup < 0 ? 0 : cgroup,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0) {
		char *words[] = {"moss-monitor", "standby", born ? document : NULL, group, NULL};
		int null = open("/dev/null", O_RDWR);
		setsid();
		for (int fd = 0; fd < 3; fd++)
			if (null != fd && dup2(null, fd) < 0)
				_exit(125);
		if (null > 2)
			close(null);
		if (sock[1] == 3 ? fcntl(3, F_SETFD, 0) : dup2(sock[1], 3) < 0)
			_exit(125);
		if (chdir("/") == 0)
			execve(path, words, env);
		_exit(125);
	}
	close(sock[1]);
	if (pid > 0) {
		moss_enter_monitor = sock[0];
		moss_enter_monitor_pid = pid;
	} else {
		close(sock[0]);
	}
out:
	free(env);
	if (cgroup >= 0)
		close(cgroup);
}

// is_runtime tells moss-runtime, which joins only when told to; it may run from
// a sealed copy, "/memfd:moss-runtime (deleted)".
static int is_runtime(void)
{
	const char *path = own_path(), *base = strrchr(path, '/');
	return !*path || strstr(base ? base : path, "moss-runtime") != NULL;
}

__attribute__((constructor)) static void moss_enter(int argc, char **argv)
{
#ifndef __GLIBC__
	// Only glibc hands constructors the arguments. They lie below the
	// environment: System V ABI, "Initial Process Stack".
	extern char **environ;
	argc = 0;
	for (argv = environ - 1; (intptr_t)argv[-1] != argc; argv--)
		argc++;
#endif
	// See userns/slack.
	prctl(PR_SET_TIMERSLACK, 4000000UL, 0, 0, 0);
	if (take("_MOSS_TERMINAL"))
		keep_terminal();
	const char *how = take("_MOSS_JOIN");
	int pausing = take("_MOSS_PAUSE") != NULL;
	if (how || pausing) {
		int joined = how ? join_told(how) : 0;
		if (pausing)
			become_pause(joined);
		return;
	}

	const char *host = getenv("_MOSS_HOST");
	if (!(host && !strcmp(host, "1")) && !moss_enter_skips(argc, argv) && !is_runtime())
		auto_join(argc, argv);
}
