/* What no well-meant application does, quickly enough to be tested with.
 *
 * unruly orphans COUNT   leaves COUNT processes without a parent, each for its grandparent's reaper; says so; waits
 * unruly crowd COUNT     has COUNT children, which wait like itself
 * unruly storm LIMIT     forks without end from every process that it makes, each in a session of its own and with TERM
 *                        ignored; the kernel keeps its user (not root) to LIMIT processes at once; over after two minutes
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int orphans(long count) {
    for (long made = 0; made < count; made++) {
        pid_t child = fork();
        if (child < 0) {
            perror("fork");
            return 1;
        }
        if (child == 0) {
            fork();
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    puts("orphans made");
    fflush(stdout);
    for (;;) pause();
}

static int crowd(long count) {
    for (long made = 0; made < count; made++) {
        if (fork() == 0) break;
    }
    for (;;) pause();
    return 0;
}

static int storm(long limit) {
    struct rlimit bound = {(rlim_t)limit, (rlim_t)limit};
    if (getuid() == 0 || setrlimit(RLIMIT_NPROC, &bound) != 0) {
        fputs("a storm needs a user that the kernel can keep within a limit\n", stderr);
        return 1;
    }
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    time_t over = time(NULL) + 120;
    while (time(NULL) < over) {
        if (fork() == 0) setsid();
    }
    return 0;
}

int main(int count, char **words) {
    if (count == 3 && strcmp(words[1], "orphans") == 0) return orphans(atol(words[2]));
    if (count == 3 && strcmp(words[1], "crowd") == 0) return crowd(atol(words[2]));
    if (count == 3 && strcmp(words[1], "storm") == 0) return storm(atol(words[2]));
    fputs("usage: unruly orphans COUNT | crowd COUNT | storm LIMIT\n", stderr);
    return 2;
}
