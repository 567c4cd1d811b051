import type { GameSymbol } from './paytable.ts'

/** Stops on each reel: a power of two, so that six bits of the draw choose one without bias. */
export const stopsPerReel = 64

// One letter per symbol keeps a whole reel readable on one line.
const letters: Readonly<Record<string, GameSymbol>> = {
  Y: 'yeti',
  R: 'rocket',
  M: 'moon',
  C: 'coin',
  S: 'star',
  P: 'planet',
  A: 'alien',
  U: 'ufo',
}

// Every reel holds the same symbols (Y3 R5 M6 C7 S9 P10 A11 U13) in an order of its own, equal symbols at
// least three stops apart, so that no column ever shows one symbol twice.
const layout = [
  'UMARUPASUCYUMSAP URSCUASMPACUSRPY UACSPMURAPCAUSMA YPUCPSAMUPRCAUPS',
  'SPRUAMCPUASYPURA PMUSCAYURPASMUCA UMPSAUCRSUPMAPSC UYARPCUMSACSUPAU',
  'MPAUSRACPMSURPAY UCSUAPCUMRSAPUYA SCMUPSARUMCPUASP MAUSPCUARUPSYUCA',
  'SACUMPARSUCAYUPS AMCUASPRUAPUSCYP MURPASCPUMSRAUPC SMAUYAPSUCRUAMPU',
  'ACPUSYUACPMRUSAU PCUAYPSRUMAPSCUA MPASUCRSAPMUYASU PCARPUMSPAUCSMUR',
]

/** The five reels, 64 symbols each; stop n puts strip[n] in the middle row. */
export const strips: readonly (readonly GameSymbol[])[] = layout.map(reel =>
  [...reel.replaceAll(' ', '')].map(letter => letters[letter] as GameSymbol),
)
