"""A pymodbus server for tests: `pymodbus_server.py tcp PORT` or `pymodbus_server.py rtu DEVICE BAUD`.

Two units, 1 and 7. Register n of unit u holds 5000 * u + n (holding) or 5000 * u + n + 1000 (input); coil n is set
when 3 divides n, discrete input n when 3 divides n + 1. Addresses 0 to 999 exist. Prints "ready" once it listens.
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 1000


def device(unit):
    coils = [SimData(0, values=[n % 3 == 0 for n in range(SIZE)], datatype=DataType.BITS)]
    discrete = [SimData(0, values=[(n + 1) % 3 == 0 for n in range(SIZE)], datatype=DataType.BITS)]
    holding = [SimData(0, values=[5000 * unit + n for n in range(SIZE)], datatype=DataType.REGISTERS)]
    inputs = [SimData(0, values=[5000 * unit + n + 1000 for n in range(SIZE)], datatype=DataType.REGISTERS)]
    return SimDevice(id=unit, simdata=(coils, discrete, holding, inputs))


async def main():
    devices = [device(1), device(7)]
    if sys.argv[1] == "tcp":
        server = ModbusTcpServer(devices, address=("127.0.0.1", int(sys.argv[2])))
    else:
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=sys.argv[2], baudrate=int(sys.argv[3]))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
