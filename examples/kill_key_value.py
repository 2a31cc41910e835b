"""Kill a program that puts into the key-value store (kill -9), recover, look for what was put.

    python examples/kill_key_value.py ['soft:kv.img?size=2G&inline=1'] [--rounds 100]

It printed, with `--rounds 2`:

    2 kills, 540 steps, 536 records: all as acknowledged

Each round some threads put and delete, and say so once it is durable. After the kill all that was
said has to be there, and nothing else but what each thread had begun.
"""

import argparse
import itertools
import os
import random
import subprocess
import sys
import threading

from key_value import Store

import pynvme_user as nvme

THREADS, SLOTS = 4, 40


def key(run, thread, number):
    """Return the key that a thread's step is about: they come again and again."""
    return f"{run}/{thread}/{number % SLOTS}".encode()


def state(thread, number):
    """Return the value that a step puts, or None: it deletes."""
    return None if number % 7 == 6 else b"%d.%d;" % (thread, number) * (number * 37 % 500)


def put(device, run, steps):
    """Put without end, on several threads, each from its step on."""
    with nvme.open(device) as ctrl:
        store = Store(ctrl.namespaces[1])

        def work(thread, number):
            while True:
                value = state(thread, number)
                if value is None:
                    store.delete(key(run, thread, number))
                else:
                    store.put(key(run, thread, number), value)
                os.write(1, b"%d %d\n" % (thread, number))
                number += 1

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(steps)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def lines_until_killed(command, enough):
    """Run a child; yield each line of its output, kill it once ``enough(line)``, yield the rest."""
    killed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        for line in child.stdout:
            yield line
            if not killed and enough(line):
                child.kill()
                killed = True
    if not killed:
        sys.exit(f"the child ended by itself, with {child.returncode}")


def kill(device, run, done, acknowledged):
    """Let a child put, kill it after so many; note each thread's last step that was durable."""
    steps = [str(number + 1) for number in done]
    command = [sys.executable, __file__, device, "--run", run, "--steps", *steps]
    count = itertools.count(1)
    for line in lines_until_killed(command, lambda _: next(count) == acknowledged):
        thread, number = map(int, line.split())
        done[thread] = number


def differences(store, run, done):
    """Return the keys that have another value than they may have."""
    found = []
    for thread, last in enumerate(done):
        may = {key(run, thread, n): [state(thread, n)] for n in range(1, last + 1)}
        may.setdefault(key(run, thread, last + 1), [None]).append(state(thread, last + 1))
        found += [name for name, states in may.items() if store.get(name) not in states]
    return found


def main(device, rounds):
    """Kill and recover so many times."""
    run, done = os.urandom(4).hex(), [0] * THREADS
    for number in range(rounds):
        kill(device, run, done, random.randint(1, 500))
        with nvme.open(device) as ctrl:
            store = Store(ctrl.namespaces[1])
            if wrong := differences(store, run, done):
                sys.exit(f"round {number}: FAILED: {wrong}")
    print(f"{rounds} kills, {sum(done)} steps, {store.number} records: all as acknowledged")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("device", nargs="?", default="soft:kv.img?size=2G&inline=1")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        put(args.device, args.run, args.steps)
    else:
        main(args.device, args.rounds)
