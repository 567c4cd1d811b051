/** The row (0 top, 1 middle, 2 bottom) that a payline crosses on each of the five reels. */
export type Payline = readonly [number, number, number, number, number]

/** Ten lines; a bet of n lines plays the first n. */
export const paylines: readonly Payline[] = [
  [1, 1, 1, 1, 1], // middle
  [0, 0, 0, 0, 0], // top
  [2, 2, 2, 2, 2], // bottom
  [0, 1, 2, 1, 0], // V
  [2, 1, 0, 1, 2], // inverted V
  [0, 0, 1, 2, 2], // falling step
  [2, 2, 1, 0, 0], // rising step
  [1, 0, 1, 2, 1], // wave, up first
  [1, 2, 1, 0, 1], // wave, down first
  [0, 1, 0, 1, 0], // zigzag
]
