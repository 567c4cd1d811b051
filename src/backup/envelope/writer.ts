export interface SealedWriter {
  /** Order of calls = order of frames. `pieces`: lengths of consecutive runs of the raw bytes whose CRC-32C is wanted. */
  frame(
    raw: ArrayBuffer,
    length: number,
    pieces?: readonly number[],
  ): Promise<{ crcs: number[]; raw: ArrayBuffer }>
  /** Bytes of the stored object so far. */
  readonly storedBytes: number
  finish(): Promise<{ parts: Uint8Array[]; bytes: number; sha256: string }>
}
