/* The application of `soak supervise`: it may run once only, and writes down itself where that is not so.
 *
 * lone DIR ROUND plain|stubborn|double|escaped
 *
 * It holds a lock on DIR/lock, which lives as long as any of its processes, and writes lines to DIR/journal:
 * `b` begun, `e` escaped (the grandchild of `double`: no parent, no environment, a session of its own), `t` asked to
 * end, `v` another copy holds the lock; each with ROUND, pid and nanoseconds since 1970.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int journal;
static const char *round_number;
static volatile sig_atomic_t stubborn;

/* Called in the handler too: the digits are made by hand, since printf may not be. */
static void note(char what) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char line[96] = {what, ' '}, digits[24];
    size_t used = 2;
    for (const char *c = round_number; *c && used < 16; c++) line[used++] = *c;
    unsigned long long numbers[2] = {(unsigned long long)getpid(),
                                     (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec};
    for (int i = 0; i < 2; i++) {
        int count = 0;
        do digits[count++] = (char)('0' + numbers[i] % 10);
        while (numbers[i] /= 10);
        line[used++] = ' ';
        while (count) line[used++] = digits[--count];
    }
    line[used++] = '\n';
    if (write(journal, line, used) < 0) _exit(9);
}

static void asked(int signal) {
    (void)signal;
    note('t');
    if (!stubborn) _exit(0);
}

static void escape(char **words) {
    if (fork() == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        char *empty[] = {NULL};
        char *again[] = {words[0], words[1], words[2], "escaped", NULL};
        execve("/proc/self/exe", again, empty);
        _exit(9);
    }
    wait(NULL);
}

int main(int count, char **words) {
    char path[4096];
    if (count != 4) return 2;
    round_number = words[2];
    int escaped = strcmp(words[3], "escaped") == 0;
    stubborn = escaped || strcmp(words[3], "stubborn") == 0;
    snprintf(path, sizeof path, "%s/journal", words[1]);
    journal = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (journal < 0) return 3;
    struct sigaction action = {0};
    action.sa_handler = asked;
    sigaction(SIGTERM, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    if (!escaped) {
        snprintf(path, sizeof path, "%s/lock", words[1]);
        int lock = open(path, O_RDWR | O_CREAT, 0666);
        if (lock < 0) return 3;
        if (flock(lock, LOCK_EX | LOCK_NB) != 0) note('v');
        if (strcmp(words[3], "double") == 0) escape(words);
    }
    note(escaped ? 'e' : 'b');
    for (;;) pause();
}
