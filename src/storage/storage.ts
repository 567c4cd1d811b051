export interface ObjectInfo {
  key: string
  bytes: number
}

/**
 * Named, whole objects: what a directory and an S3 bucket have in common. Keys are relative, `/`-separated, made of
 * [A-Za-z0-9._-]; objects are at most 64 MiB. What resolved is durable. Failures are rows of errors.ts.
 */
export interface Storage {
  /** For people: `file:///srv/backups`, `s3://bucket/prefix`. Never a secret. */
  readonly description: string
  /** Whether putNew is decided by the store itself. A store that ignores conditions was found out by a probe. */
  readonly conditional: boolean
  /** Writes the whole object; what was there before is replaced at once or not at all. */
  put(key: string, data: readonly Uint8Array[], options?: { signal?: AbortSignal }): Promise<void>
  /** Writes the object only where none is: false means that one was there, and it is as it was. */
  putNew(key: string, data: readonly Uint8Array[], options?: { signal?: AbortSignal }): Promise<boolean>
  /** @throws STORAGE_NOT_FOUND */
  get(key: string, options?: { offset?: number; length?: number; signal?: AbortSignal }): Promise<Buffer>
  head(key: string): Promise<ObjectInfo | undefined>
  /** In ascending byte order of the keys; `after` is exclusive. What is being written is not listed. */
  list(prefix: string, options?: { after?: string }): AsyncIterable<ObjectInfo>
  /** Absent keys are fine. */
  delete(keys: readonly string[]): Promise<void>
  close(): Promise<void>
}
