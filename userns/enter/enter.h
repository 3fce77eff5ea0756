// What Go sees of enter.c.
#ifndef MOSS_ENTER_H
#define MOSS_ENTER_H

// Version of the line in <run>/pause; userns.Protocol is the same number.
enum { MOSS_ENTER_PROTOCOL = 1 };

extern int moss_enter_joined;   // this process is inside the kept namespaces
extern int moss_enter_lost_cwd; // … and its working directory is not there: it is /
extern int moss_enter_below;    // … because who started it was there already

// The monitor that was started ahead: its start socket (-1: there is none), its
// PID, the cgroup that it was born in, and the ID of the container that it has
// begun to make ("" if none).
extern int moss_enter_monitor, moss_enter_monitor_pid;
extern char moss_enter_monitor_id[65];
extern char moss_enter_monitor_home[4096]; // PATH_MAX

// Whether a command line needs no namespaces: userns.Needed says the opposite.
int moss_enter_skips(int argc, char **argv);

#endif
