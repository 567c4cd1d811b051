/** The eight symbols, best paid first. A symbol's place in this list is its code in every table of the game. */
export const symbols = ['yeti', 'rocket', 'moon', 'coin', 'star', 'planet', 'alien', 'ufo'] as const

export type GameSymbol = (typeof symbols)[number]

/** Substitutes for every other symbol, and pays as itself. */
export const wild: GameSymbol = 'yeti'

/** What a run of 3, 4 and 5 from the left pays, in multiples of the line's stake. */
export const paytable: Readonly<Record<GameSymbol, readonly [three: number, four: number, five: number]>> = {
  yeti: [40, 200, 1000],
  rocket: [30, 120, 500],
  moon: [20, 80, 300],
  coin: [16, 50, 200],
  star: [12, 40, 160],
  planet: [9, 30, 120],
  alien: [9, 25, 100],
  ufo: [8, 23, 80],
}

/** The multiple of the line's stake that `count` of `symbol` from the left pays; 0 below three. */
export function payOf(symbol: GameSymbol, count: number): number {
  return paytable[symbol][count - 3] ?? 0
}
