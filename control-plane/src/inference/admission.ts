// Who gets in: counts of requests under way, in all and by API key. A key at its own limit is told 429, which is its affair; a full
// server is told 503, which another replica may help with. Without keys everyone is one operator and only the total counts.
import { ErrorCode } from '@spotlight/proto';
import type { Config } from '../config/config.js';
import { ServiceError } from '../errors/service-error.js';

export class Admission {
  readonly #byCaller = new Map<string, number>();
  #total = 0;
  #closed = false;

  constructor(private readonly limits: Pick<Config, 'maxRequests' | 'maxRequestsPerKey'>) {}

  get total(): number {
    return this.#total;
  }

  /**
   * Counts one request in; `leave` with the same caller counts it out.
   * @param caller id of the API key, undefined where none is needed
   * @throws ServiceError UNAVAILABLE while stopping, OVERLOADED when the server is full, RATE_LIMITED when the key's share is
   */
  enter(caller: string | undefined): void {
    const { maxRequests, maxRequestsPerKey } = this.limits;
    if (this.#closed) throw stopping();
    if (this.#total >= maxRequests) {
      throw new ServiceError(
        ErrorCode.OVERLOADED,
        `This server is already at its limit of ${maxRequests} requests; try again shortly.`,
      );
    }
    if (caller !== undefined) {
      const own = this.#byCaller.get(caller) ?? 0;
      if (own >= maxRequestsPerKey) {
        throw new ServiceError(
          ErrorCode.RATE_LIMITED,
          `This API key has ${own} requests under way, its limit is ${maxRequestsPerKey}; wait for one to end.`,
        );
      }
      this.#byCaller.set(caller, own + 1);
    }
    this.#total += 1;
  }

  leave(caller: string | undefined): void {
    this.#total -= 1;
    if (caller === undefined) return;
    const own = (this.#byCaller.get(caller) ?? 0) - 1;
    if (own > 0) this.#byCaller.set(caller, own);
    else this.#byCaller.delete(caller);
  }

  /** Nothing new is let in from now on. */
  close(): void {
    this.#closed = true;
  }
}

export function stopping(): ServiceError {
  return new ServiceError(ErrorCode.UNAVAILABLE, 'This server is shutting down; send the request again.');
}
