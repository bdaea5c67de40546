/* The matrix tiles in C, for tests on processors with bfloat16 vectors but without tiles: the same names as those of
   tiles.h. Each thread has eight tiles of 16 rows of 64 bytes. */

static _Thread_local _Alignas(64) uint8_t tiles[8][16][64];

static int tiles_granted(void) { return 1; }
static void tiles_begin(void) { memset(tiles, 0, sizeof tiles); }
static void tiles_end(void) {}

/* C[16][16] += A[16][16 pairs] times B[16 pairs][16], both of bfloat16: the upper halves of float32 numbers. */
static void add_tiles(int to, int a, int b) {
    float left[16][32], right[32][16], sums[16][16];
    for (int row = 0; row < 16; row++) {
        for (int k = 0; k < 32; k++) {
            uint16_t halves[2];
            memcpy(&halves[0], &tiles[a][row][2 * k], 2), memcpy(&halves[1], &tiles[b][k / 2][4 * row + k % 2 * 2], 2);
            const uint32_t bits[2] = {(uint32_t)halves[0] << 16, (uint32_t)halves[1] << 16};
            memcpy(&left[row][k], &bits[0], 4), memcpy(&right[k][row], &bits[1], 4);
        }
    }
    memcpy(sums, tiles[to], sizeof sums);
    for (int row = 0; row < 16; row++) {
        for (int k = 0; k < 32; k++) {
            for (int column = 0; column < 16; column++) sums[row][column] += left[row][k] * right[k][column];
        }
    }
    memcpy(tiles[to], sums, sizeof sums);
}

static void load_tile(int tile, const void *from, long stride) {
    for (int row = 0; row < 16; row++) memcpy(tiles[tile][row], (const char *)from + row * stride, 64);
}
static void store_tile(int tile, void *to, long stride) {
    for (int row = 0; row < 16; row++) memcpy((char *)to + row * stride, tiles[tile][row], 64);
}

#define TILE_ZERO(T) memset(tiles[T], 0, sizeof tiles[T])
#define TILE_LOAD(T, FROM, STRIDE) load_tile(T, FROM, STRIDE)
#define TILE_STORE(T, TO, STRIDE) store_tile(T, TO, STRIDE)
#define TILE_ADD(C, A, B) add_tiles(C, A, B)
