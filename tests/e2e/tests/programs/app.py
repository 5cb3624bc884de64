"""Replies to one line, the path of a file outside the jail, with what it can use of the system."""

import json
import multiprocessing
import pathlib
import sqlite3
import subprocess
import sys
import tempfile
import threading


def square(number):
    return number * number


def total():
    with tempfile.NamedTemporaryFile() as file:
        database = sqlite3.connect(file.name)
        database.execute('create table numbers (number)')
        database.executemany('insert into numbers values (?)', [(number,) for number in range(10)])
        database.commit()
        return database.execute('select sum(number) from numbers').fetchone()[0]


def content(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError as error:
        return type(error).__name__


def main():
    path = sys.stdin.readline().strip()
    threads = []
    thread = threading.Thread(target=lambda: threads.append(True))
    thread.start()
    thread.join()
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(square, range(4))
    words = subprocess.run(['echo', 'words'], capture_output=True, text=True, check=True).stdout.split()
    print(json.dumps([total(), squares, words, threads, content(path)]), flush=True)


if __name__ == '__main__':
    main()
