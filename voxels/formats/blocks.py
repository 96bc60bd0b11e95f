"""Which block of other programs is which material, in explicit tables.

Names are those of Minecraft Java Edition without the "minecraft:" prefix and without states.
A block that fills its cell maps to the nearest of the seven default materials, one that does not
(plants, torches, rails, panes) to air. What is in no table is reported by the readers, never
guessed. Numbers are the legacy block ids used before version 1.13.
"""

from ..palette import AIR

MINECRAFT_OF_MATERIAL = {
    "Grass": "grass_block",
    "Dirt": "dirt",
    "Stone": "stone",
    "Plank": "oak_planks",
    "Snow": "snow_block",
    "Sand": "sand",
    "Water": "water",
}

_WOODS = ("oak", "spruce", "birch", "jungle", "acacia", "dark_oak", "mangrove", "cherry")
_STONES = (
    "stone cobblestone mossy_cobblestone stone_bricks mossy_stone_bricks cracked_stone_bricks "
    "chiseled_stone_bricks smooth_stone andesite polished_andesite diorite polished_diorite "
    "granite polished_granite deepslate cobbled_deepslate deepslate_bricks tuff gravel bedrock "
    "coal_ore iron_ore gold_ore diamond_ore redstone_ore lapis_ore emerald_ore obsidian bricks "
    "furnace blast_furnace smoker anvil hopper cauldron iron_block coal_block glowstone "
    "stone_slab cobblestone_slab stone_brick_slab stone_stairs cobblestone_stairs "
    "stone_brick_stairs cobblestone_wall stone_brick_wall grindstone brewing_stand "
    "enchanting_table"
)
_WOODEN = (
    "bookshelf crafting_table chest barrel loom cartography_table fletching_table composter "
    "note_block jukebox hay_block"
)
_WHITE = "snow_block quartz_block white_concrete white_wool white_stained_glass glass"
_SANDY = "sand red_sand sandstone smooth_sandstone cut_sandstone sandstone_slab sandstone_stairs"
_OPEN = (
    "air cave_air void_air torch wall_torch lantern soul_lantern ladder chain rail lever "
    "dandelion poppy lilac rose_bush peony sunflower grass short_grass tall_grass fern "
    "large_fern dead_bush vine lily_pad sugar_cane wheat carrots potatoes red_bed white_bed "
    "red_carpet white_carpet white_wall_banner white_stained_glass_pane glass_pane iron_bars "
    "cobweb snow stone_button stone_pressure_plate redstone_wire"
)


def _table() -> dict[str, str]:
    table = dict.fromkeys(_OPEN.split(), AIR)
    table |= dict.fromkeys(_STONES.split(), "Stone") | dict.fromkeys(_WOODEN.split(), "Plank")
    table |= dict.fromkeys(_WHITE.split(), "Snow") | dict.fromkeys(_SANDY.split(), "Sand")
    for wood in _WOODS:
        full = ("planks", "log", "wood", "slab", "stairs")
        table |= {f"{wood}_{part}": "Plank" for part in full}
        table |= {f"stripped_{wood}_{part}": "Plank" for part in ("log", "wood")}
        table |= {f"{wood}_leaves": "Grass"}
        thin = ("door", "trapdoor", "fence", "fence_gate", "sapling", "button", "sign", "wall_sign")
        table |= {f"{wood}_{part}": AIR for part in (*thin, "pressure_plate")}
    table |= {"grass_block": "Grass", "moss_block": "Grass", "mycelium": "Grass"}
    table |= {"dirt": "Dirt", "coarse_dirt": "Dirt", "podzol": "Dirt", "farmland": "Dirt"}
    table |= {"rooted_dirt": "Dirt", "dirt_path": "Dirt", "mud": "Dirt", "clay": "Dirt"}
    return table | {"water": "Water", "ice": "Water", "packed_ice": "Water", "blue_ice": "Water"}


MATERIAL_OF_MINECRAFT = _table()

MATERIAL_OF_LEGACY_ID = {
    0: AIR,
    1: "Stone",
    2: "Grass",
    3: "Dirt",
    4: "Stone",
    5: "Plank",
    7: "Stone",
    8: "Water",
    9: "Water",
    12: "Sand",
    13: "Stone",
    14: "Stone",
    15: "Stone",
    16: "Stone",
    17: "Plank",
    18: "Grass",
    20: "Snow",
    24: "Sand",
    35: "Snow",
    43: "Stone",
    44: "Stone",
    45: "Stone",
    47: "Plank",
    48: "Stone",
    49: "Stone",
    50: AIR,
    53: "Plank",
    54: "Plank",
    58: "Plank",
    61: "Stone",
    62: "Stone",
    64: AIR,
    65: AIR,
    67: "Stone",
    78: AIR,
    79: "Water",
    80: "Snow",
    82: "Dirt",
    85: AIR,
    89: "Stone",
    96: AIR,
    98: "Stone",
    101: AIR,
    102: AIR,
    109: "Stone",
    125: "Plank",
    126: "Plank",
    134: "Plank",
    135: "Plank",
    136: "Plank",
    139: "Stone",
    155: "Snow",
    160: AIR,
    161: "Grass",
    162: "Plank",
    171: AIR,
    174: "Water",
    188: AIR,
    189: AIR,
    190: AIR,
    191: AIR,
    192: AIR,
}
LEGACY_ID_OF_MATERIAL = {
    "Grass": 2,
    "Dirt": 3,
    "Stone": 1,
    "Plank": 5,
    "Snow": 80,
    "Sand": 12,
    "Water": 9,
}


def material_of(state: str) -> str | None:
    """Material of a block state such as "minecraft:oak_log[axis=y]"; None if unknown.

    Examples:
      >>> material_of("minecraft:oak_log[axis=y]"), material_of("torch"), material_of("mod:thing")
      ('Plank', 'Air', None)
    """
    name, _, _ = state.partition("[")
    namespace, colon, rest = name.partition(":")
    if colon and namespace != "minecraft":
        return None
    return MATERIAL_OF_MINECRAFT.get(rest if colon else name)
