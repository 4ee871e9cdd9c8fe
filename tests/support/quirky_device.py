"""A Modbus device with one bad habit, on raw sockets or a pseudo terminal; no Modbus library is involved.

quirky_device.py tcp HABIT     prints "ready PORT"
quirky_device.py rtu HABIT     prints "ready PATH"

Unit 1 has holding registers 0 to 99 but not 50 to 59; register A holds 1000 + A.
"""
import os
import select
import socket
import struct
import sys
import threading
import tty

KIND, HABIT = sys.argv[1], sys.argv[2]
LOCK = threading.Lock()
CONNECTED = [0]


def answer(unit, pdu):
    """The PDU of the right answer, or None for silence."""
    if unit != 1:
        return None
    if pdu[0] != 3:
        return bytes([pdu[0] | 0x80, 1])
    first, count = struct.unpack(">HH", pdu[1:5])
    if first + count > 100 or (first < 60 and first + count > 50):
        return bytes([0x83, 2])
    return bytes([3, 2 * count]) + b"".join(struct.pack(">H", 1000 + a) for a in range(first, first + count))


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


def receive(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve(connection):
    asked, before = 0, None
    while True:
        number, _, length, unit = struct.unpack(">HHHB", receive(connection, 7))
        pdu = answer(unit, receive(connection, length - 1))
        asked += 1
        if pdu is None:
            continue
        extra = {"one-inside": 1, "two-inside": 2}.get(HABIT, 0)
        number = {"number-0": 0, "number-own": 0x7000 + asked}.get(HABIT, number)
        unit = {"unit-0": 0, "unit-255": 255}.get(HABIT, unit)
        frame = struct.pack(">HHHB", number, 0, len(pdu) + 1 + extra, unit) + pdu + b"\x5f" * extra
        frame += b"\x5f" * {"one-behind-frame": 1, "two-behind-frame": 2}.get(HABIT, 0)
        if HABIT == "close-unanswered" and asked % 3 == 0:
            return
        if HABIT == "late-by-one" and asked > 8:
            before, frame = frame, before
        for part in ([frame] if HABIT != "split" else [frame[i:i + 1] for i in range(len(frame))]):
            connection.sendall(part or b"")
        if HABIT == "close-each" or HABIT == "close-second" and asked == 2:
            return


def client(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with LOCK:
        is_one_too_many = HABIT == "one-connection" and CONNECTED[0] > 0
        CONNECTED[0] += not is_one_too_many
    try:
        if not is_one_too_many:
            serve(connection)
    except (ConnectionError, OSError):
        pass
    finally:
        connection.close()
        with LOCK:
            CONNECTED[0] -= not is_one_too_many


def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    print("ready", listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=client, args=(listener.accept()[0],), daemon=True).start()


def rtu():
    ours, theirs = os.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    print("ready", os.ttyname(theirs), flush=True)
    data = b""
    while True:
        if select.select([ours], [], [], 0.01)[0]:
            data += os.read(ours, 300)
            continue
        request, data = data, b""
        if len(request) < 6 or crc(request[:-2]) != request[-2:]:
            continue
        pdu = answer(request[0], request[1:-2])
        if pdu is None:
            continue
        frame = request[:1] + pdu
        frame += crc(frame)
        if HABIT == "not-understood":
            frame = b"\xa5" * len(frame)
        before, behind = {"before": (b"\0", b""), "behind": (b"", b"\0"), "both": (b"\xff\0", b"\0\xff")}.get(HABIT, (b"", b""))
        os.write(ours, before + frame + behind)


tcp() if KIND == "tcp" else rtu()
