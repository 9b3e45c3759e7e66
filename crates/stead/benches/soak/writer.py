"""Outside processes of the soak: each does one thing to databases until it is ended.

    writer.py plain   JOURNAL DB         rows, bulk and VACUUM, with a busy timeout
    writer.py lone    JOURNAL DB         rows, without a busy timeout
    writer.py pair    JOURNAL DB OTHER   the same row in both databases, in one transaction over ATTACH
    writer.py app     JOURNAL DB         like plain, with a child in a session of its own
    writer.py both    JOURNAL DB OTHER   rows in both files of $STEAD_DATA, one after the other, as fast as it goes
    writer.py reader  JOURNAL DB         one read transaction for as long as it may
    writer.py truncate JOURNAL DB...     PRAGMA wal_checkpoint(TRUNCATE) every second

JOURNAL gets a line before each request (`b ID NANOSECONDS`), one after its acknowledgement (`a …`) or refusal
(`x … REASON`), and `p PID` for each process. `both` notes a row once both files have it, in $SOAK_JOURNAL; its rows
begin with $SOAK_ROLE, and as `rest` it writes nothing.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

PACE = float(os.environ.get("SOAK_PACE", "0.002"))


def open_database(path, timeout):
    return sqlite3.connect(path, timeout=timeout, isolation_level=None)


class Journal:
    def __init__(self, path):
        self.last = 0
        if os.path.exists(path):
            with open(path) as lines:
                self.last = max((int(line.split()[1]) for line in lines if line[0] == "b"), default=0)
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what, number, more=""):
        os.write(self.file, f"{what} {number} {time.time_ns()}{more}\n".encode())

    def rows(self):
        number = self.last
        while True:
            number += 1
            self.note("b", number)
            yield number
            time.sleep(random.expovariate(1 / PACE) if PACE else 0)


def write_plain(db, journal):
    conn = open_database(db, 120)
    for number in journal.rows():
        if number % 1500 == 0:
            conn.execute("DELETE FROM ballast")
            conn.execute("VACUUM")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("INSERT INTO entries VALUES (?, ?)", (number, random.randbytes(random.randint(10, 200))))
        if number % 200 == 0:
            bulk = ((random.randbytes(900),) for _ in range(random.randint(1, 600)))
            conn.executemany("INSERT INTO ballast(data) VALUES (?)", bulk)
        if number % 7 == 0:
            conn.execute("DELETE FROM ballast WHERE id % 11 = ?", (number % 11,))
        conn.execute("COMMIT")
        journal.note("a", number)


def write_lone(db, journal):
    conn = open_database(db, 0)
    for number in journal.rows():
        try:
            conn.execute("INSERT INTO entries VALUES (?, ?)", (number, random.randbytes(60)))
            journal.note("a", number)
        except sqlite3.OperationalError as error:
            journal.note("x", number, f" {error}")
            time.sleep(0.01)


def write_pair(db, other, journal):
    conn = open_database(db, 120)
    conn.execute("ATTACH ? AS other", (other,))
    # Killed in the middle of its commit it would leave one database without the other: SQLite does not promise more.
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    for number in journal.rows():
        if asked:
            return
        amount = random.randint(1, 1000)
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("INSERT INTO main.entries VALUES (?, ?)", (number, amount))
        conn.execute("INSERT INTO other.entries VALUES (?, ?)", (number, amount))
        conn.execute("COMMIT")
        journal.note("a", number)


def write_both(databases, journal):
    role = os.environ["SOAK_ROLE"]
    while role == "rest":
        time.sleep(1000)
    both = [open_database(os.path.join(os.environ["STEAD_DATA"], db), 120) for db in databases]
    newest = "SELECT coalesce(max(id), 0) FROM entries"
    # Where it was killed between the two commits, one has a row more.
    number = min(conn.execute(newest).fetchone()[0] for conn in both)
    while True:
        number += 1
        for conn in both:
            conn.execute("BEGIN IMMEDIATE")
            data = f"{role} {random.randbytes(random.randint(10, 100)).hex()}"
            conn.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (number, data))
            if number % 200 == 0:
                bulk = ((random.randbytes(900),) for _ in range(random.randint(1, 600)))
                conn.executemany("INSERT INTO ballast(data) VALUES (?)", bulk)
            if number % 250 == 0:
                conn.execute("DELETE FROM ballast WHERE id % 3 = ?", (number % 3,))
            conn.execute("COMMIT")
        journal.note("a", number)


def read_for_long(db):
    conn = open_database(db, 120)
    conn.execute("BEGIN")
    first = conn.execute("SELECT count(*), total(id) FROM entries").fetchone()
    while True:
        time.sleep(0.5)
        if conn.execute("SELECT count(*), total(id) FROM entries").fetchone() != first:
            sys.exit("the reader's snapshot changed under it")


def truncate(databases, journal):
    connections = [open_database(db, 0.5) for db in databases]
    number = 0
    while True:
        for conn in connections:
            number += 1
            journal.note("b", number)
            busy, _, _ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            journal.note("x" if busy else "a", number)
        time.sleep(1)


def main():
    kind, databases = sys.argv[1], sys.argv[3:]
    journal = Journal(os.environ.get("SOAK_JOURNAL", sys.argv[2]))
    journal.note("p", os.getpid())
    if kind == "app":
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        journal.note("p", child.pid)
    if kind in ("plain", "app"):
        write_plain(databases[0], journal)
    elif kind == "both":
        write_both(databases, journal)
    elif kind == "lone":
        write_lone(databases[0], journal)
    elif kind == "pair":
        write_pair(databases[0], databases[1], journal)
    elif kind == "reader":
        read_for_long(databases[0])
    elif kind == "truncate":
        truncate(databases, journal)


main()
