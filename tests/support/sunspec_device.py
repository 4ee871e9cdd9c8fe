"""SunSpec devices for the tests, laid out and understood by pysunspec2, the reference of the SunSpec Alliance.

    sunspec_device.py serve DEVICE PROFILE   Modbus TCP by pymodbus, on a free port of the loopback address
    sunspec_device.py golden PROFILE...      what tests/golden/ holds of the devices for each profile

`serve` prints `ready PORT` when it answers, then in one line of JSON what each point of the profile must read: its
value as pysunspec2 scales it, or a text that says why there is none. It ends when its standard input closes.
"""

import asyncio
import json
import pathlib
import sys
import tomllib

import sunspec2.device
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNIT = 17

# Where the map begins, and the models in their order; the number is a seed for the values, or a length for a model of
# a vendor that nobody knows.
DEVICES = {
    "hybrid": (40000, [(1, 0), (103, 3), (120, 1), (121, 2), (122, 3), (123, 4), (124, 5), (160, 2), (64001, 17), (802, 6), (203, 7), (201, 8)]),
    "one-phase": (50000, [(1, 0), (101, 4), (160, 5)]),
    "float": (0, [(1, 0), (64110, 9), (113, 9)]),
    "split-phase": (40000, [(1, 0), (102, 2), (124, 8)]),
    "float-one-phase": (40000, [(1, 0), (111, 2)]),
    "float-split-phase": (50000, [(1, 0), (112, 1)]),
    "meter": (40000, [(1, 0), (203, 7)]),
    "delta-meter": (50000, [(1, 0), (64002, 3), (204, 5)]),
    "one-phase-meter": (0, [(1, 0), (201, 6)]),
    "split-phase-meter": (40000, [(1, 0), (202, 8)]),
    "float-meter": (40000, [(1, 0), (213, 4)]),
}
# Those with a golden record.
FOR_PROFILE = {"sunspec-inverter": ["hybrid", "one-phase", "float"], "sunspec-meter": ["delta-meter", "float-meter"]}
TEXTS = {"Mn": "Lineside", "Md": "Simulated", "Opt": "none", "Vr": "1.2.3", "SN": "4711"}


def value(point, seed, place):
    """Different in each point, and here and there not implemented, which `None` stands for."""
    kind = point.pdef["type"]
    if kind == "string":
        return TEXTS.get(point.pdef["name"], f"{point.pdef['name']} {place}")
    if kind == "sunssf":
        return (seed + place) % 5 - 3
    if (place + seed) % 7 == 0:
        return None
    if kind.startswith("enum"):
        symbols = [symbol["value"] for symbol in point.pdef.get("symbols", [])]
        return symbols[place % len(symbols)] if symbols else place
    if kind == "float32":
        return (place * 37 + seed) * (-0.25 if place % 3 == 0 else 0.5)
    sign = -1 if kind in ("int16", "int32") and place % 3 == 0 else 1
    most = {"int16": 30_000, "uint16": 60_000, "bitfield16": 60_000}.get(kind, 2_000_000_000)
    return sign * ((place * 7919 + seed * 104_729) % most + 1)


def fill(group, seed, place):
    for name, point in group.points.items():
        place += 1
        if name not in ("ID", "L", "N") and point.pdef["type"] != "pad":
            point.value = value(point, seed, place)
    for repeated in group.groups.values():
        for one in repeated if isinstance(repeated, list) else [repeated]:
            place = fill(one, seed, place)
    return place


def model(number, seed):
    """A model of pysunspec2 with its words; of an unknown number words alone, as many as its seed says."""
    if number >= 64000:
        return None, [number, seed] + [7] * seed
    data = {"ID": number, "N": seed, "module": [{"ID": 1 + index} for index in range(seed)]} if number == 160 else {"ID": number}
    made = sunspec2.device.Model(model_id=number, data=data)
    fill(made, seed, 0)
    bare = made.get_mb()
    made.points["L"].value = len(bare) // 2 - 2
    made.points["ID"].value = number
    if number == 160:
        made.points["N"].value = seed
    words = made.get_mb()
    return made, [int.from_bytes(words[at:at + 2], "big") for at in range(0, len(words), 2)]


def lay_out(device):
    """The registers of a device, and of each model where it begins."""
    base, numbers = DEVICES[device]
    words, models = [0x5375, 0x6E53], []
    for number, seed in numbers:
        made, own = model(number, seed)
        models.append((number, made, len(own)))
        words += own
    return base, words + [0xFFFF, 0], models


def leaves(group, offset=0):
    """Every point with its offset from the begin of the model, as pysunspec2 lays them out."""
    for point in group.points.values():
        yield offset, point
        offset += point.len
    for repeated in group.groups.values():
        for one in repeated if isinstance(repeated, list) else [repeated]:
            offset = yield from leaves(one, offset)
    return offset


def shown(point):
    """What pysunspec2 makes of a point."""
    factor = point.pdef.get("sf")
    scaled = point.cvalue
    if point.value is None or (point.pdef["type"].startswith("acc") and point.value == 0):
        return "bad: not a number" if point.pdef["type"] == "float32" else "bad: not available"
    return round(scaled, 10) if factor else point.value


def expected(device, profile):
    """By the names of our profile: what each point of it must read."""
    _, _, models = lay_out(device)
    read, seen = {}, {}
    sections = tomllib.loads(pathlib.Path(profile).read_text())["sunspec"]
    for section in sections:
        for point in section["point"]:
            read.setdefault(point["name"], "bad: not in this firmware")
    for number, made, _ in models:
        for section in sections:
            if number not in section["ids"]:
                continue
            key = tuple(section["ids"]), section.get("instance", 1)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] != key[1]:
                continue
            by_offset = dict(leaves(made))
            for point in section["point"]:
                found = by_offset.get(point["address"])
                if found is not None and read[point["name"]] == "bad: not in this firmware":
                    read[point["name"]] = shown(found)
    return read


def text(value, point):
    if isinstance(value, str) and value.startswith("bad: "):
        return value
    if point.get("encoding") == "string":
        return f'"{value}"'
    state = point.get("states", {}).get(str(value))
    number = f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f"{number} ({state})" if state else number


def golden(profile):
    points = [point for section in tomllib.loads(pathlib.Path(profile).read_text())["sunspec"] for point in section["point"]]
    for device in FOR_PROFILE[pathlib.Path(profile).stem]:
        base, words, _ = lay_out(device)
        print(f"\ndevice {device}")
        for at in range(0, len(words), 12):
            print(f"registers holding {base + at}: " + " ".join(f"{word:04X}" for word in words[at:at + 12]))
        print()
        read = expected(device, profile)
        for name, value in read.items():
            point = next(point for point in points if point["name"] == name)
            unit = point.get("unit", "")
            print(f"{name} = {text(value, point)}" + (f" {unit}" if unit and not str(value).startswith("bad: ") else ""))


async def serve(device, profile):
    base, words, _ = lay_out(device)
    # pymodbus wants the registers that nobody has declared too: they are refused.
    block = SimData(base, values=words, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(UNIT, simdata=[block]), address=("127.0.0.1", 0))
    await server.listen()
    port = server.transport.sockets[0].getsockname()[1]
    print(f"ready {port}", flush=True)
    print(json.dumps(expected(device, profile)), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "golden":
        for profile in sys.argv[2:]:
            golden(profile)
    else:
        asyncio.run(serve(*sys.argv[2:4]))
