// A5: what the control planes want of this worker. Directives are the whole desired state and carry a generation issued by
// the database they share, so the highest one seen stands, whichever replica sent it; lower ones are ignored.
import type { DesiredSlot, Directive } from '@spotlight/proto';
import type { WorkerStatus } from '../telemetry/health.js';
import type { Reconciler } from './reconciler.js';

export class DesiredState {
  #seen: bigint | undefined;
  #inForce = 0n;
  #refused = '';

  constructor(
    private readonly status: Pick<WorkerStatus, 'drain'>,
    private readonly reconciler: Pick<Reconciler, 'want' | 'inForce' | 'message'>,
  ) {}

  /** Of the last directive in force. */
  get generation(): bigint {
    if (this.#seen !== undefined && this.#refused === '' && this.reconciler.inForce)
      this.#inForce = this.#seen;
    return this.#inForce;
  }

  /** What keeps the newest directive from being in force; '' when nothing does. */
  get message(): string {
    return this.#refused === '' ? this.reconciler.message : this.#refused;
  }

  /** False when the directive is older than one already seen, and nothing was done. */
  apply({ generation, drain, slots }: Directive): boolean {
    if (this.#seen !== undefined && generation < this.#seen) return false;
    const fresh = generation !== this.#seen;
    // What is in force is looked at a last time before something else is wanted.
    this.#inForce = this.generation;
    this.#seen = generation;
    this.status.drain('directive', drain);
    this.#refused = fault(slots);
    if (this.#refused === '') {
      const wanted = slots.map(({ artifactDigest, active }) => ({ digest: artifactDigest, active }));
      this.reconciler.want(wanted, fresh);
    }
    return true;
  }
}

/** What is wrong with a directive's slots; '' when nothing is. */
function fault(slots: readonly DesiredSlot[]): string {
  const digests = new Set(slots.map(({ artifactDigest }) => artifactDigest));
  if (digests.has('')) return 'the directive names a slot without artifact_digest';
  if (digests.size !== slots.length) return 'the directive names an artifact twice';
  if (slots.length > 2) return `the directive names ${slots.length} artifacts, a worker holds two`;
  if (slots.filter(({ active }) => active).length > 1) return 'the directive makes two artifacts active';
  return '';
}
