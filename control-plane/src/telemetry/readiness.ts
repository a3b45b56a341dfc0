// Whether this replica should get traffic: its database is open and it is not draining. Workers have no say: they join through
// the service that readiness opens, so waiting for one would be waiting for ourselves.
import { Inject, Injectable } from '@nestjs/common';
import { Storage } from '../storage/storage.js';

@Injectable()
export class Readiness {
  #storageOpen = false;
  #draining = false;

  constructor(@Inject(Storage) storage: Pick<Storage, 'ready'>) {
    storage.ready.then(
      () => {
        this.#storageOpen = true;
      },
      () => undefined, // start.ts reports it and ends the process
    );
  }

  /** Why not, in one sentence; undefined when ready. */
  get obstacle(): string | undefined {
    if (this.#draining) return 'shutting down';
    return this.#storageOpen ? undefined : 'the database is not open yet';
  }

  drain(): void {
    this.#draining = true;
  }
}
