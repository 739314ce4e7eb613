// Lets a processor without AMX run code that uses it: each tile instruction is trapped, decoded and done on arrays.
#pragma once

void trap_tile_instructions();
