// Progress of a long transfer in lines a log can hold: at most one a second, and only when there is news.

export type Say = (line: string) => void;

export class Progress {
  private last = performance.now();
  private done = 0;

  constructor(
    private readonly what: string,
    private readonly total: number,
    private readonly say: Say,
  ) {}

  /** @param done bytes so far, those of earlier runs counted */
  at(done: number): void {
    const now = performance.now();
    if (now - this.last < 1000 || done <= this.done) return;
    this.last = now;
    this.done = done;
    const percent = Math.min(100, Math.floor((100 * done) / this.total));
    this.say(`${this.what}: ${(done / 1e6).toFixed(0)} of ${(this.total / 1e6).toFixed(0)} MB (${percent}%)`);
  }
}
