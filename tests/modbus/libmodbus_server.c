/* A Modbus server made of libmodbus, for tests: `tcp PORT` serves several unit ids as a gateway does, `rtu PORT BAUD UNIT`
 * one. What it holds is what pymodbus_server.py holds. Prints "ready" when it can be asked. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ITEMS = 1000 };

/* Units behind the gateway: the least, one in the middle, the greatest, and the one that means the gateway itself. */
static const int UNITS[] = {1, 7, 247, 255};
enum { UNIT_COUNT = sizeof UNITS / sizeof UNITS[0] };

static modbus_mapping_t *holds(int unit) {
    modbus_mapping_t *map = modbus_mapping_new(ITEMS, ITEMS, ITEMS, ITEMS);
    if (map == NULL) {
        exit(1);
    }
    for (int address = 0; address < ITEMS; address++) {
        map->tab_registers[address] = (uint16_t)(5000 * unit + address);
        map->tab_input_registers[address] = (uint16_t)(5000 * unit + 1000 + address);
        map->tab_bits[address] = address % 3 == 0;
        map->tab_input_bits[address] = (address + 1) % 3 == 0;
    }
    return map;
}

static modbus_mapping_t *map_of(modbus_mapping_t **maps, int unit) {
    for (int index = 0; index < UNIT_COUNT; index++) {
        if (UNITS[index] == unit) {
            return maps[index];
        }
    }
    return NULL;
}

static void serve(modbus_t *context, modbus_mapping_t **maps) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int header = modbus_get_header_length(context);
    for (;;) {
        int length = modbus_receive(context, query);
        if (length == -1) {
            return;
        }
        if (length == 0) {
            continue;
        }
        modbus_mapping_t *map = map_of(maps, query[header - 1]);
        if (map == NULL) {
            modbus_reply_exception(context, query, MODBUS_EXCEPTION_GATEWAY_TARGET);
        } else {
            modbus_reply(context, query, length, map);
        }
    }
}

int main(int count, char **arguments) {
    modbus_mapping_t *maps[UNIT_COUNT];
    for (int index = 0; index < UNIT_COUNT; index++) {
        maps[index] = holds(UNITS[index]);
    }
    if (count == 3 && strcmp(arguments[1], "tcp") == 0) {
        modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(arguments[2]));
        int listener = context == NULL ? -1 : modbus_tcp_listen(context, 4);
        if (listener == -1) {
            fprintf(stderr, "%s\n", modbus_strerror(errno));
            return 1;
        }
        puts("ready");
        fflush(stdout);
        while (modbus_tcp_accept(context, &listener) != -1) {
            serve(context, maps);
            modbus_close(context);
        }
    } else if (count == 5 && strcmp(arguments[1], "rtu") == 0) {
        modbus_t *context = modbus_new_rtu(arguments[2], atoi(arguments[3]), 'N', 8, 1);
        if (context == NULL || modbus_set_slave(context, atoi(arguments[4])) == -1 || modbus_connect(context) == -1) {
            fprintf(stderr, "%s\n", modbus_strerror(errno));
            return 1;
        }
        puts("ready");
        fflush(stdout);
        for (;;) {
            serve(context, maps);
        }
    } else {
        fprintf(stderr, "usage: tcp PORT | rtu PORT BAUD UNIT\n");
        return 2;
    }
    return 0;
}
