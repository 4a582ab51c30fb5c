// Hopper's products of the wide convolutions: d [64, TILE] += a [64, 16] b, TILE being `wide.cu`'s CHANNELS or
// `wide_weight.cu`'s OUTPUTS. Those say how by `MULTIPLY(columns, names, sums, after…)`: the names of d's operands, which
// come first, the operands, and the names of the five that can follow.

#ifdef CHANNELS
#define TILE CHANNELS
#else
#define TILE OUTPUTS
#endif
#define SUM(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define SUMS2 SUM(0), SUM(1)
#define SUMS3 SUMS2, SUM(2)
#define SUMS4 SUMS3, SUM(3)
#define SUMS6 SUMS4, SUM(4), SUM(5)
#define SUMS8 SUMS6, SUM(6), SUM(7)
#define SUMS12 SUMS8, SUM(8), SUM(9), SUM(10), SUM(11)
#define SUMS16 SUMS12, SUM(12), SUM(13), SUM(14), SUM(15)
#define NAMES1 "%0,%1,%2,%3"
#define NAMES2 NAMES1 ",%4,%5,%6,%7"
#define NAMES3 NAMES2 ",%8,%9,%10,%11"
#define NAMES4 NAMES3 ",%12,%13,%14,%15"
#define NAMES6 NAMES4 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define NAMES8 NAMES6 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES12 NAMES8 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define NAMES16 NAMES12 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

#if TILE == 8
#define MULTIPLY_TILE MULTIPLY(8, NAMES1, SUM(0), "%4", "%5", "%6", "%7", "%8")
#elif TILE == 16
#define MULTIPLY_TILE MULTIPLY(16, NAMES2, SUMS2, "%8", "%9", "%10", "%11", "%12")
#elif TILE == 24
#define MULTIPLY_TILE MULTIPLY(24, NAMES3, SUMS3, "%12", "%13", "%14", "%15", "%16")
#elif TILE == 32
#define MULTIPLY_TILE MULTIPLY(32, NAMES4, SUMS4, "%16", "%17", "%18", "%19", "%20")
#elif TILE == 48
#define MULTIPLY_TILE MULTIPLY(48, NAMES6, SUMS6, "%24", "%25", "%26", "%27", "%28")
#elif TILE == 64
#define MULTIPLY_TILE MULTIPLY(64, NAMES8, SUMS8, "%32", "%33", "%34", "%35", "%36")
#elif TILE == 96
#define MULTIPLY_TILE MULTIPLY(96, NAMES12, SUMS12, "%48", "%49", "%50", "%51", "%52")
#elif TILE == 128
#define MULTIPLY_TILE MULTIPLY(128, NAMES16, SUMS16, "%64", "%65", "%66", "%67", "%68")
#else
#error "the tile's width is none of the widths that are compiled"
#endif
