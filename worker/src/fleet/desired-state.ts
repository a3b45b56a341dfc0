// A5: what the control planes want of this worker. Directives are the whole desired state and carry a generation issued by
// the database they share, so the highest one seen stands, whichever replica sent it; lower ones are ignored.
import type { Directive } from '@spotlight/proto';
import type { SlotTable } from '../artifact/slots.js';
import type { WorkerStatus } from '../telemetry/health.js';

export class DesiredState {
  private seen = 0n;
  private inForce = 0n;
  private obstacle = '';

  constructor(
    private readonly status: Pick<WorkerStatus, 'drain'>,
    private readonly slots: Pick<SlotTable, 'list' | 'activate'>,
  ) {}

  /** Of the last directive that is fully in force. */
  get generation(): bigint {
    return this.inForce;
  }

  /** What keeps the newest directive from being in force; '' when nothing does. */
  get message(): string {
    return this.obstacle;
  }

  /** False when the directive is older than one already seen, and nothing was done. */
  apply(directive: Directive): boolean {
    if (directive.generation < this.seen) return false;
    this.seen = directive.generation;
    this.status.drain('directive', directive.drain);
    this.obstacle = this.reconcileSlots(directive);
    if (this.obstacle === '') this.inForce = directive.generation;
    return true;
  }

  private reconcileSlots(directive: Directive): string {
    for (const wanted of directive.slots) {
      const slot = this.slots.list().find((each) => each.artifactDigest === wanted.artifactDigest);
      if (slot === undefined) return `artifact ${wanted.artifactDigest} is not on this worker`;
      if (wanted.active && !slot.active) this.slots.activate(slot.slot);
    }
    return '';
  }
}
