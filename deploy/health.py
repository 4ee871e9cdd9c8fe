#!/usr/bin/env python3
"""Prints the health messages of lineside gateways as JSON lines, each with the whole state: health.py FILE..., oldest
first, or a live stream: mosquitto_sub -t 'lineside/v1/+/+/health' -F '%t %x' | health.py

pip install zstandard. A whole state comes when the gateway connects, once an hour and on request, and the broker keeps
the last one. The messages in between say what changed since that whole state; docs/payloads.md describes them. Changes
of a whole state that was missed are reported on standard error and left out: the next whole state mends it.
"""
import copy
import json
import sys

import zstandard

MESSAGE_MAX = 512 << 10


def numbers(node, skipped, path=(), column=(), columns=None):
    """Every number of a document as (container, key), by column: the place with "*" for each index on the way."""
    columns = {} if columns is None else columns
    for key in sorted(node) if isinstance(node, dict) else range(len(node)):
        here, value = path + (key,), node[key]
        if here in skipped:
            continue
        if isinstance(value, (dict, list)):
            numbers(value, skipped, here, column + ("*" if isinstance(node, list) else key,), columns)
        elif type(value) in (int, float):
            columns.setdefault(column + (key,), []).append((node, key))
    return columns


def parent(document, path):
    for step in path[:-1]:
        document = document[step]
    return document


def apply(status, message):
    """The state that the changes in `message` make of the whole state `status`."""
    status = copy.deepcopy(status)
    changed, gone = message.get("set", []), message.get("drop", [])
    skipped = {tuple(path) for path, _ in changed} | {tuple(path) for path in gone}
    places = [place for column in numbers(status, skipped).values() for place in column]
    if len(places) != len(message["add"]):
        raise ValueError("changes of another document")
    for (node, key), entry in zip(places, message["add"]):
        node[key] = entry if type(entry) is float else node[key] + entry if entry else node[key]
    for path in gone:
        del parent(status, path)[path[-1]]
    for path, value in changed:
        parent(status, path)[path[-1]] = value
    return status


class Reader:
    """The states of any number of gateways."""

    def __init__(self):
        self.wholes = {}

    def take(self, payload, topic=""):
        """The whole state after this message; None while the whole state that it builds on is missing."""
        if zstandard.frame_content_size(payload) not in range(MESSAGE_MAX + 1):
            raise ValueError("not a health message")
        message = json.loads(zstandard.ZstdDecompressor().decompress(payload))
        if message.get("type") != "health" or message.get("format") != 1:
            raise ValueError("not a health message of format 1")
        if "base" not in message:
            self.wholes[topic] = message
            return message["status"]
        whole = self.wholes.get(topic, {})
        return apply(whole["status"], message) if whole.get("id") == message["base"] else None


def messages():
    if sys.argv[1:]:
        yield from (("", open(path, "rb").read()) for path in sys.argv[1:])
    else:
        yield from ((topic, bytes.fromhex(hexadecimal)) for topic, hexadecimal in map(str.split, sys.stdin))


if __name__ == "__main__":
    reader = Reader()
    for topic, payload in messages():
        status = reader.take(payload, topic)
        if status is None:
            print(f"{topic}: waiting for a whole state", file=sys.stderr, flush=True)
        else:
            print(json.dumps(status, ensure_ascii=False), flush=True)
