// What the engine asks of its neighbours and gives to them. Updates are the wire's own messages (RequestUpdate):
// a step's news is built once and sent as it is, since a second shape per delta would cost more than the step's policy.
import type { Quality, SlotId } from '@spotlight/cuda';
import type {
  AttentionSettings,
  Error as WireError,
  Load,
  RequestUpdate,
  SamplingParams,
} from '@spotlight/proto';

/** What a choice had come to on a lost worker. */
export interface Resumed {
  /** Generated ones: run again as first run, not sent again. */
  readonly tokenIds: readonly number[];
  /** UTF-16 code units of text the client already has, the echoed prompt included. */
  readonly emittedChars: number;
  /** The client has its finish reason: counted in the usage, neither run nor told again. */
  readonly finished?: boolean;
}

/** A request as the engine takes it: its prompt encoded, all else as it came; submit() checks it and fills every default. */
export interface EngineRequest {
  readonly requestId: string;
  /** At least one token; at most maxModelLen - 1. */
  readonly promptTokens: readonly number[];
  readonly sampling: SamplingParams;
  readonly attention: AttentionSettings | undefined;
  /** By choice; one that had not begun has no entry. */
  readonly resume: ReadonlyMap<number, Resumed>;
  /** Steps with deltas that may be sent before more credit comes; undefined is unlimited. */
  readonly credits: number | undefined;
  /** Milliseconds on performance.now()'s clock after which the request ends with DEADLINE_EXCEEDED. */
  readonly deadline: number | undefined;
  readonly artifactDigest: string;
  /** Present: the request measures its artifact instead of answering a client. */
  readonly measure?: Measure;
}

/** How a request measures: every row of its generated phase is probed. */
export interface Measure {
  /** The slot to measure, whether or not requests may be pinned to it. */
  readonly slot: SlotId;
  /** Tokens of a row of the generated phase, and of a prompt's chunk while others decode. */
  readonly rowTokens: number;
  /** Of every layer and KV head that retrieved. */
  take(sample: Quality): void;
}

/** Receives one call a step with all updates of the requests that were submitted with this sink. One sink a Serve stream. */
export interface UpdateSink {
  send(step: number, updates: RequestUpdate[], load: Load): void;
}

/** The engine as the server sees it. */
export interface RequestEngine {
  /** Returns a wire error instead of queueing when the request cannot be admitted (too long, queue full, draining, dead). */
  submit(request: EngineRequest, sink: UpdateSink): WireError | undefined;
  /** Idempotent; the request ends with finish reason CANCELLED and its blocks are freed once. */
  cancel(requestId: string, sink: UpdateSink): void;
  /** Ends every request of a sink whose stream is gone. */
  cancelAll(sink: UpdateSink): void;
  credit(requestId: string, sink: UpdateSink, credits: number): void;
  load(): Load;
}

/** A token's text, streamed: bytes are held back until they are whole code points. */
export interface TextStream {
  push(tokenId: number): string;
  flush(): string;
}

/** The tokenizer as the engine sees it. */
export interface TokenTexts {
  /** The token's own bytes; special tokens give their literal text. */
  bytes(tokenId: number): Uint8Array;
  /** Special tokens are left out of text unless asked for. */
  openStream(options?: { readonly skipSpecial?: boolean }): TextStream;
  /** Ids that end a choice unless ignore_eos. */
  readonly stopTokenIds: ReadonlySet<number>;
}
