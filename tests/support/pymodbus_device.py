"""A device of another make for the tests: pymodbus as a Modbus server.

    pymodbus_device.py tcp             Modbus TCP, on a free port of the loopback address
    pymodbus_device.py rtu-over-tcp    serial frames, on a free port of the loopback address
    pymodbus_device.py serial PORT     serial frames at 19,200 baud, no parity, on a serial port

Prints one line when it answers: `ready PORT`. Ends when its standard input closes.
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNIT = 17
KINDS = ModbusClientMixin.DATATYPE

# Encoded by pymodbus, not by us: type, value; the address follows from the width of what comes before.
NUMBERS = [
    (KINDS.UINT16, 65_000),
    (KINDS.INT16, -1_234),
    (KINDS.UINT32, 4_000_000_001),
    (KINDS.INT32, -2_000_000_001),
    (KINDS.UINT64, 18_000_000_000_000_000_001),
    (KINDS.INT64, -9_000_000_000_000_000_001),
    (KINDS.FLOAT32, 230.25),
    (KINDS.FLOAT64, 0.1),
]

SINGLES = {
    # A bit field, an enumeration, and registers that a scale factor, -1, belongs to.
    80: 0b1010_0101_0000_1100,
    81: 2,
    82: 2301,
    83: 0xFFFF,
    # Sentinels: not implemented, in both widths.
    84: 0x8000,
    85: 0xFFFF,
    86: 0xFFFF,
    # Scale and offset; a value beyond its range.
    87: 250,
    88: 999,
    # A factor that is none.
    89: 0x8000,
    90: 17,
}


def registers(value, kind, word_order):
    return ModbusClientMixin.convert_to_registers(value, kind, word_order=word_order)


def numbers(word_order):
    return [word for kind, value in NUMBERS for word in registers(value, kind, word_order)]


def words(address, values):
    return SimData(address, values=values, datatype=DataType.REGISTERS)


def device():
    text = registers("Zähler 77", KINDS.STRING, "big")
    not_a_number = registers(float("nan"), KINDS.FLOAT32, "big")
    holding = [words(0, numbers("big")), words(40, numbers("little"))]
    singles = [SINGLES[address] for address in sorted(SINGLES)]
    holding += [words(80, singles), words(100, text), words(110, not_a_number)]
    coils = [SimData(5, values=[True, False, True, True], datatype=DataType.BITS)]
    discrete = [SimData(9, values=[False, True], datatype=DataType.BITS)]
    inputs = [words(300, registers(-40.5, KINDS.FLOAT32, "big") + [0x8000])]
    return SimDevice(UNIT, simdata=(coils, discrete, holding, inputs))


async def serve(link, serial_port=None):
    framer = FramerType.SOCKET if link == "tcp" else FramerType.RTU
    if link == "serial":
        server = ModbusSerialServer(device(), framer=framer, port=serial_port, baudrate=19_200, parity="N")
    else:
        server = ModbusTcpServer(device(), framer=framer, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    print("ready", serial_port or server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve(*sys.argv[1:]))
