// Tokens a second as a person reads them: the prompt's rate ends at the first token, decoding is counted from there on,
// so that a long prompt does not make decoding look slow.

export class TokenRate {
  private firstAt: number | undefined;
  private lastAt = 0;
  private tokens = 0;

  /** @param now milliseconds of one steady clock, here and below */
  constructor(private readonly startedAt: number) {}

  add(tokens: number, now: number): void {
    if (tokens === 0) return;
    this.firstAt ??= now;
    this.lastAt = now;
    this.tokens += tokens;
  }

  /** Seconds to the first token; tokens a second after it, undefined with fewer than two tokens. */
  summary(): { tokens: number; firstTokenSeconds: number | undefined; tokensPerSecond: number | undefined } {
    if (this.firstAt === undefined) {
      return { tokens: 0, firstTokenSeconds: undefined, tokensPerSecond: undefined };
    }
    const decodeSeconds = (this.lastAt - this.firstAt) / 1000;
    return {
      tokens: this.tokens,
      firstTokenSeconds: (this.firstAt - this.startedAt) / 1000,
      tokensPerSecond: decodeSeconds > 0 ? (this.tokens - 1) / decodeSeconds : undefined,
    };
  }
}
