// Runs the worker's engine on the fake native engine and gathers what its clients would see.
import assert from 'node:assert/strict';
import { FinishReason } from '@spotlight/proto';
import type { Delta, Load, RequestUpdate, SamplingParams, TokenLogprob, Usage } from '@spotlight/proto';
import { SamplingParams as SamplingParamsMessage, ServeResponse } from '@spotlight/proto';
import type { EngineRequest, UpdateSink } from '@spotlight/worker/engine/api.js';
import { EngineLoop } from '@spotlight/worker/engine/engine.js';
import type { EngineLoopOptions } from '@spotlight/worker/engine/options.js';
import { silentObserver } from '@spotlight/worker/engine/observer.js';
import { pino } from 'pino';
import { fakeSettings } from '../fakes/engine-info.js';
import { FakeEngine } from '../fakes/engine.js';
import type { FakeEngineOptions } from '../fakes/engine.js';
import { FakeTexts } from '../fakes/texts.js';

export interface ChoiceSeen {
  readonly tokens: number[];
  readonly logprobs: TokenLogprob[];
  text: string;
  finish: FinishReason;
  stop: Delta['stopReason'];
}

/** All a client sees of one request. */
export class Seen {
  readonly choices: ChoiceSeen[] = [];
  readonly updates: RequestUpdate[] = [];
  usage: Usage | undefined;
  error: RequestUpdate['error'];
  readonly done: Promise<this>;
  #resolve: (seen: this) => void = () => undefined;

  constructor(readonly id: string) {
    this.done = new Promise((resolve) => (this.#resolve = resolve));
  }

  get ended(): boolean {
    return this.updates.at(-1)?.done === true;
  }

  choice(index: number): ChoiceSeen {
    while (this.choices.length <= index) {
      this.choices.push({
        tokens: [],
        logprobs: [],
        text: '',
        finish: FinishReason.UNSPECIFIED,
        stop: undefined,
      });
    }
    const choice = this.choices[index];
    assert(choice);
    return choice;
  }

  take(update: RequestUpdate): void {
    assert(!this.ended, `an update after the last one of ${this.id}`);
    this.updates.push(update);
    for (const delta of update.deltas) {
      const choice = this.choice(delta.choice);
      assert.equal(choice.finish, FinishReason.UNSPECIFIED, 'a delta after the choice finished');
      choice.tokens.push(...delta.tokenIds);
      choice.logprobs.push(...delta.logprobs);
      choice.text += delta.text;
      choice.finish = delta.finishReason;
      choice.stop = delta.stopReason;
    }
    this.usage = update.usage ?? this.usage;
    this.error = update.error ?? this.error;
    if (update.done) this.#resolve(this);
  }
}

/** One Serve stream's consumer. */
export class Consumer implements UpdateSink {
  readonly seen = new Map<string, Seen>();
  lastLoad: Load | undefined;
  calls = 0;

  expect(id: string): Seen {
    const seen = new Seen(id);
    this.seen.set(id, seen);
    return seen;
  }

  send(step: number, updates: RequestUpdate[], load: Load): void {
    this.calls++;
    this.lastLoad = load;
    // What cannot be written ends a real stream, and all requests on it.
    ServeResponse.encode({ step: BigInt(step), updates, load }).finish();
    for (const update of updates) {
      const seen = this.seen.get(update.requestId);
      assert(seen, `an update for unknown request ${update.requestId}`);
      seen.take(update);
    }
  }
}

export type RequestInput = Partial<Omit<EngineRequest, 'sampling'>> & {
  readonly sampling?: Partial<SamplingParams>;
};

export class Harness {
  readonly native: FakeEngine;
  readonly texts: FakeTexts;
  readonly engine: EngineLoop;
  readonly consumer = new Consumer();
  readonly problems: string[] = [];
  preemptions = 0;
  #count = 0;

  constructor(
    fake: FakeEngineOptions = {},
    options: Partial<EngineLoopOptions> = {},
    Native: typeof FakeEngine = FakeEngine,
  ) {
    this.native = new Native(fake);
    this.texts = new FakeTexts(this.native.info.model.vocabSize, this.native.info.model.eosTokenIds);
    this.engine = new EngineLoop({
      native: this.native,
      texts: this.texts,
      attention: fakeSettings,
      settingsDigest: 'settings',
      log: pino({ level: 'silent' }),
      ...options,
      observer: {
        ...silentObserver,
        ...options.observer,
        auditFailed: (problem) => this.problems.push(problem),
        preempted: () => this.preemptions++,
      },
    });
  }

  /** Submits a request that must be taken. */
  start(input: RequestInput): Seen {
    const request = this.request(input);
    const seen = this.consumer.expect(request.requestId);
    assert.equal(this.engine.submit(request, this.consumer), undefined);
    return seen;
  }

  request({ sampling, ...rest }: RequestInput): EngineRequest {
    return {
      requestId: `r${this.#count++}`,
      promptTokens: [1, 2, 3],
      attention: undefined,
      resume: new Map(),
      credits: undefined,
      deadline: undefined,
      artifactDigest: '',
      ...rest,
      sampling: SamplingParamsMessage.fromPartial({ seed: 7n, maxTokens: 16, ...sampling }),
    };
  }

  /** Waits until nothing runs or waits and the engine rests, then checks the books. */
  async idle(): Promise<void> {
    for (;;) {
      const { running, waiting } = this.engine.load();
      if (running + waiting === 0 && !this.engine.health().busy) break;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(this.problems, []);
    const { freeBlocks, totalBlocks } = this.engine.load();
    assert.equal(freeBlocks, totalBlocks, 'free + cached is all of the pool when nothing runs');
    assert.equal(this.native.stats().openSequences, 0, 'every sequence is closed');
  }

  async stop(): Promise<void> {
    await this.engine.stop();
    await this.native.dispose();
  }
}

/** What one request gives when it is alone in an engine with room. */
export async function alone(input: RequestInput, fake: FakeEngineOptions = {}): Promise<Seen> {
  const harness = new Harness({ ...fake, blocks: 512, maxSequences: 256 });
  const seen = await harness.start(input).done;
  await harness.stop();
  return seen;
}
