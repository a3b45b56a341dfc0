// The tokens one step drew for the requests of one artifact, gathered for the observer in one array that is used again.
import type { TokenObservation } from './observer.js';

export class TokenTally implements TokenObservation {
  drawn = 0;
  gaps = new Float64Array(64);
  gapCount = 0;

  constructor(readonly artifactDigest: string) {}

  /** A token, so many seconds after its choice's last; undefined: it is the first. */
  add(gap: number | undefined): void {
    this.drawn++;
    if (gap === undefined) return;
    if (this.gapCount === this.gaps.length) {
      const grown = new Float64Array(this.gaps.length * 2);
      grown.set(this.gaps);
      this.gaps = grown;
    }
    this.gaps[this.gapCount++] = gap;
  }

  clear(): void {
    this.drawn = 0;
    this.gapCount = 0;
  }
}
