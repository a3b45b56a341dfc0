// One record a Serve stream: its requests by id, and the updates of the current step. The sink is called once a step
// with all of them, since a message a request would cost more than the step.
import type { Load, RequestUpdate } from '@spotlight/proto';
import type { UpdateSink } from './api.js';
import type { Request } from './request.js';

export class Client {
  readonly requests = new Map<string, Request>();
  /** Requests with news, in the order it arose. */
  readonly news: Request[] = [];
  updates: RequestUpdate[] = [];
  failed = false;

  constructor(readonly sink: UpdateSink) {}
}

export interface SinkFailure {
  readonly sink: UpdateSink;
  readonly error: unknown;
}

export class Clients {
  readonly #bySink = new Map<UpdateSink, Client>();

  /** The sink's record, made when it is new. */
  open(sink: UpdateSink): Client {
    let client = this.#bySink.get(sink);
    if (client === undefined) {
      client = new Client(sink);
      this.#bySink.set(sink, client);
    }
    return client;
  }

  find(sink: UpdateSink): Client | undefined {
    return this.#bySink.get(sink);
  }

  /** Forgets a client without requests. */
  close(client: Client): void {
    if (client.requests.size === 0) this.#bySink.delete(client.sink);
  }

  *withNews(): IterableIterator<Client> {
    for (const client of this.#bySink.values()) if (client.news.length > 0) yield client;
  }

  *requests(): IterableIterator<Request> {
    for (const client of this.#bySink.values()) yield* client.requests.values();
  }

  /** Calls every sink that has updates, once. A sink that throws is given and told nothing more. */
  send(step: number, load: () => Load): SinkFailure[] {
    const failures: SinkFailure[] = [];
    let current: Load | undefined;
    for (const client of this.#bySink.values()) {
      const { updates, sink } = client;
      if (updates.length === 0) continue;
      client.updates = [];
      current ??= load();
      try {
        if (!client.failed) sink.send(step, updates, current);
      } catch (error) {
        client.failed = true;
        failures.push({ sink, error });
      }
      this.close(client);
    }
    return failures;
  }
}
