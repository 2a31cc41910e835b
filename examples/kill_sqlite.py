"""Kill a program that writes into SQLite on a namespace (kill -9), recover, look for each row.

    python examples/kill_sqlite.py ['soft:sqlite.img?size=2G&inline=1'] [--rows 1000000]
                                   [--rounds 10] [--journal wal]    # overwrites what is there

It printed, after 13 minutes:

    10 kills, 1,000,000 rows inserted, 950,005 left: integrity ok, none lost

Each transaction inserts a hundred rows, changes a hundred old ones, deletes five of them, and is
told of once it is committed. After a kill PRAGMA integrity_check has to say ok, and
every row has to be as the transactions left it that were committed: all that the child told of, and
at most one more. `--journal delete`, `truncate` and `persist` have a rollback journal.
"""

import argparse
import itertools
import os
import random
import sys

from kill_key_value import lines_until_killed

import pynvme_user as nvme
from pynvme_user.sqlite import NamespaceVfs

EACH = 100  # rows that a transaction inserts
SCHEMA = """
    CREATE TABLE step(number INTEGER NOT NULL);
    CREATE TABLE row(id INTEGER PRIMARY KEY, changes INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX bodies ON row(body);
    INSERT INTO step VALUES (0)
"""


def body(number, changes):
    """Return the text of a row after so many changes: 20 to 200 bytes, scattered in the index."""
    return f"{number * 2654435761 % 2**32:010d}.{changes};" + "x" * (number * 37 % 180)


def deleted(step):
    """Return which of each 20 rows a transaction deletes."""
    return step % 2 + 1


def do(database, step):
    """Do one transaction, on its own rows and those of the one that has half its number."""
    first, old = (step - 1) * EACH, (step // 2 - 1) * EACH
    with database:
        database.executemany(
            "INSERT INTO row VALUES (?, 0, ?)",
            ((number, body(number, 0)) for number in range(first, first + EACH)),
        )
        rows = database.execute(
            "SELECT id, changes FROM row WHERE id >= ? AND id < ?", (old, old + EACH)
        ).fetchall()
        database.executemany(
            "UPDATE row SET changes = ?2 + 1, body = ?3 WHERE id = ?1",
            ((number, changes, body(number, changes + 1)) for number, changes in rows),
        )
        database.execute(
            "DELETE FROM row WHERE id >= ? AND id < ? AND id % 20 = ?",
            (old, old + EACH, deleted(step)),
        )
        database.execute("UPDATE step SET number = ?", (step,))


def expected(steps):
    """Yield each row that is there after so many transactions, in order."""
    for number in range(steps * EACH):
        owner = number // EACH + 1
        changers = range(2 * owner, min(2 * owner + 2, steps + 1))
        if not any(number % 20 == deleted(step) for step in changers):
            yield number, len(changers), body(number, len(changers))


def write(device, journal, last, tell):
    """Do the transactions that are left, up to the last one; tell of each."""
    with nvme.open(device) as ctrl, NamespaceVfs(ctrl.namespaces[1]) as vfs:
        database = vfs.connect(journal_mode=journal)
        for step in range(database.execute("SELECT number FROM step").get + 1, last + 1):
            do(database, step)
            tell(step)


def check(device, journal, acknowledged):
    """Recover; return how many transactions and rows there are. Exits for any that is wrong."""
    with nvme.open(device) as ctrl, NamespaceVfs(ctrl.namespaces[1]) as vfs:
        database = vfs.connect(journal_mode=journal)
        found = database.execute("PRAGMA integrity_check").get
        steps = database.execute("SELECT number FROM step").get
        if found != "ok" or steps not in (acknowledged, acknowledged + 1):
            sys.exit(f"FAILED: {found}, {steps} transactions, of {acknowledged} or one more")
        rows = database.execute("SELECT * FROM row ORDER BY id")
        count = 0
        for row, right in itertools.zip_longest(rows, expected(steps)):
            if row != right:
                sys.exit(f"FAILED after {steps} transactions: found {row}, not {right}")
            count += 1
        return steps, count


def main(device, journal, steps, rounds):
    """Write so many transactions, and kill whoever does it so many times."""
    with nvme.open(device) as ctrl, NamespaceVfs(ctrl.namespaces[1], erase=True) as vfs:
        vfs.connect(journal_mode=journal).execute(SCHEMA)
    command = [sys.executable, __file__, device, "--journal", journal, "--child"]
    done = 0
    for last in sorted(random.sample(range(1, steps), rounds)):
        for line in lines_until_killed(command, lambda line, last=last: int(line) >= last):
            done = int(line)
        done, _ = check(device, journal, done)  # one more may be there than was told of
    write(device, journal, steps, lambda step: None)
    done, rows = check(device, journal, max(done, steps))
    print(f"{rounds} kills, {done * EACH:,} rows inserted, {rows:,} left: integrity ok, none lost")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("device", nargs="?", default="soft:sqlite.img?size=2G&inline=1")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--journal", default="wal")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        write(args.device, args.journal, sys.maxsize, lambda step: os.write(1, b"%d\n" % step))
    else:
        main(args.device, args.journal, args.rows // EACH, args.rounds)
