export class SealPool {
  readonly threads: number
  constructor(o: { threads?: number } = {}) {
    this.threads = o.threads ?? 2
  }
  async close(): Promise<void> {}
}
