// The words of the step ABI: what crosses between TypeScript and the native engine, typed once.
// Ids are branded numbers so that a block id can never be passed as a sequence id; rows are plain objects here and
// packed into one Int32Array by pack.ts, since a napi call per field would cost more than the step's bookkeeping.

declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

/** Index of a 64-token block in the engine's pool, 0 <= id < info.blocks. */
export type BlockId = Branded<number, 'block'>;
/** Handle of a native block table and sampling state; given by openSequence, dead after close. */
export type SequenceId = Branded<number, 'sequence'>;
/** Counts submitted steps of one engine from 1. */
export type StepId = Branded<number, 'step'>;
/** One of the two code planes. */
export type SlotId = 0 | 1;

export const BLOCK_SIZE = 64;
export const MAX_STEPS_IN_FLIGHT = 2;
/** As a token of a row: "feed this sequence's last sample", known to the engine only. Only as a row's first token. */
export const LAST_SAMPLE = -1;

/** Methods of the literature for evaluation, to be had where EngineOptions.selectors is set; selectors() tells what each does. */
export const SELECTOR_NAMES = [
  'oracle',
  'oracle-head',
  'window',
  'lsh',
  'lsh-head',
  'quest',
  'magicpig',
  'vattention',
  'h2o',
  'snapkv',
  'fastgen',
] as const;
export type SelectorName = (typeof SELECTOR_NAMES)[number];
/** Those that never read again what they leave out, and so depend on every query of the prompt. */
export const EVICTING_SELECTORS: readonly SelectorName[] = ['h2o', 'snapkv', 'fastgen'];
export type BackendName = 'dense' | 'spotlight' | SelectorName;
export type Tail = 'block-mean' | 'none';
export type Isa = 'auto' | 'portable' | 'avx2' | 'avx512';

/** Where weights come from. `dummy` makes seeded random weights for a named shape, e.g. "smollm2-135m" or "qwen2.5-7b". */
export type ModelSource =
  | { readonly kind: 'gguf'; readonly path: string }
  | { readonly kind: 'safetensors'; readonly path: string }
  | {
      readonly kind: 'dummy';
      readonly shape: string;
      readonly seed?: number;
      readonly layers?: number;
      readonly maxModelLen?: number;
    };

/** One layer's way to attend for tokens in the generated phase. Layers attend densely below `crossover` tokens of context. */
export interface LayerSettings {
  readonly mode: 'dense' | 'sparse' | 'sparse-tail';
  /** Share of the context retrieved a KV head, (0, 1]; absent takes the deployment's. */
  readonly fraction?: number;
}

/** The deployment's attention settings. Their digest is settingsDigest(). */
export interface AttentionSettings {
  readonly backend: BackendName;
  /** Share of the context retrieved a KV head; k = max(minTokens, floor(fraction * context)). */
  readonly fraction: number;
  readonly minTokens: number;
  /** First tokens of the context, always selected, inside k. */
  readonly sink: number;
  /** Newest tokens, always selected, inside k. */
  readonly recent: number;
  readonly tail: Tail;
  /** Layers below this one never use the tail: the first two attend broadly and the mean logit misleads there. */
  readonly tailFrom: number;
  /** Contexts shorter than this many tokens attend densely; absent: where retrieval begins to win on the device (EngineInfo.crossover). */
  readonly crossover?: number | undefined;
  /** Per-layer overrides, by layer index. */
  readonly layers?: Readonly<Record<number, LayerSettings>>;
}

export interface EngineOptions {
  readonly model: ModelSource;
  readonly device?: 'cpu' | 'cuda';
  /** Compute threads, the submitting thread of the pool included; default: physical cores. */
  readonly threads?: number;
  readonly isa?: Isa;
  /** Of a GPU's weights, activations and cache; the CPU keeps the file's types. Default bf16. */
  readonly dtype?: 'bf16' | 'fp16';
  /** Blocks in the pool; or give kvBytes and the engine reports how many fit; without either a GPU takes what its free memory holds. */
  readonly blocks?: number;
  readonly kvBytes?: number;
  /** Most tokens in one batch. Default 512 on a CPU, 8192 on a GPU. */
  readonly maxBatchTokens?: number;
  /** Most rows in one batch and sequences open at once. Default 256. */
  readonly maxSequences?: number;
  /** Width of a code plane, bits a token and KV head. Default 128. */
  readonly codeBits?: number;
  /** Whether `backend` may name an evaluation method. On the CPU alone. Default false. */
  readonly selectors?: boolean;
  readonly attention: AttentionSettings;
}

export interface ModelInfo {
  readonly architecture: 'llama' | 'qwen2' | 'qwen3' | 'mistral';
  readonly layers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxModelLen: number;
  readonly ropeTheta: number;
  readonly ropeScaling: 'none' | 'linear' | 'llama3' | 'yarn';
  readonly rmsNormEps: number;
  readonly tiedEmbeddings: boolean;
  readonly bosTokenId?: number;
  readonly eosTokenIds: readonly number[];
  readonly parameters: number;
  readonly weightBytes: number;
}

export interface EngineInfo {
  readonly model: ModelInfo;
  /** SHA-256 hex over architecture, dims, RoPE and tokenizer fields; alike for every file format of one model. */
  readonly fingerprint: string;
  readonly device: 'cpu' | 'cuda';
  readonly deviceName: string;
  readonly isa: string;
  readonly threads: number;
  readonly blocks: number;
  readonly blockBytes: number;
  readonly codeBits: number;
  readonly maxBatchTokens: number;
  readonly maxSequences: number;
  /** Rows that decode steps are padded to, ascending; each is made ready at its first steps. Empty where nothing is kept by size. */
  readonly decodeSizes: readonly number[];
  /** Whether `backend` may name an evaluation method. */
  readonly selectors: boolean;
  /** Contexts shorter than this many tokens attend densely: the setting, or without one the device's own. */
  readonly crossover: number;
}

/** What a tokenizer needs when the weights carry it (GGUF); absent keys are absent in the file. */
export interface TokenizerMetadata {
  readonly model: string;
  readonly pre?: string;
  readonly tokens: readonly string[];
  readonly merges?: readonly string[];
  readonly scores?: Float32Array;
  readonly tokenTypes?: Int32Array;
  readonly bosTokenId?: number;
  readonly eosTokenId?: number;
  readonly unknownTokenId?: number;
  readonly padTokenId?: number;
  readonly addBosToken?: boolean;
  readonly addEosToken?: boolean;
  readonly addSpacePrefix?: boolean;
  readonly chatTemplate?: string;
}

/** Sampling state of one sequence (one choice of one request). */
export interface SamplingState {
  /** Philox key; draws are Philox(seed, choice, position), independent of batch and row. */
  readonly seed: bigint;
  readonly choice: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly logitBias?: ReadonlyMap<number, number>;
  /**
   * Token ids that cannot be drawn before position `bannedUntil` (min_tokens). Everywhere in sampling, a drawn token's
   * position is its own: one past the last token of the row that draws it.
   */
  readonly banned?: readonly number[];
  readonly bannedUntil?: number;
  /** Alternatives reported a sampled token; absent: no logprobs. */
  readonly logprobs?: number;
}

export interface SequenceOptions {
  readonly sampling: SamplingState;
  /** Overrides of the deployment's settings. A fraction given without layers stands above those of single layers. */
  readonly attention?: Partial<AttentionSettings>;
  /** Plane this sequence scores with, for life. */
  readonly slot: SlotId;
  /**
   * Tokens so far, given whenever a penalty is on. Penalties look at these and at the tokens drawn since, never at the
   * tokens of rows: a prefix hit, a recompute and a phase boundary inside the prompt then all count alike.
   */
  readonly promptTokens?: Int32Array;
  readonly generatedTokens?: Int32Array;
  /**
   * Blocks already filled (prefix-cache hit), in order; the last may be filled in part (the copy a fork writes on in).
   * The first row starts at a position p with ceil(p / 64) = blocks.length.
   */
  readonly blocks?: readonly BlockId[];
}

/** Consecutive tokens of one sequence in one batch. */
export interface BatchRow {
  readonly sequence: SequenceId;
  /** Absolute position of the first token. */
  readonly position: number;
  readonly tokens: ArrayLike<number>;
  /** 'prompt' attends densely; 'generated' as decode does, each token with its own causal limit and block closure. */
  readonly phase: 'prompt' | 'generated';
  /** Blocks appended to the sequence's native block table before this row runs. */
  readonly appendBlocks?: readonly BlockId[];
  /** Draw a token after the row's last token. */
  readonly sample: boolean;
  /** Return the log-probability of each token given those before it: entry i is for tokens[i + 1]; the last entry is for `nextToken` when given. */
  readonly promptLogprobs?: boolean;
  /** Alternatives a position with promptLogprobs. */
  readonly topPromptLogprobs?: number;
  readonly nextToken?: number;
  /** Return the positions each layer and KV head selected for the row's last token. */
  readonly trace?: boolean;
  /** Compare what the row's last token selected with the exact top-k: in one layer and KV head, or (absent) all. Reads all their keys. */
  readonly quality?: { readonly layer?: number; readonly kvHead?: number };
}

export interface Batch {
  /** At most one row a sequence; may be empty when `close` is not. */
  readonly rows: readonly BatchRow[];
  /** Whole-block copies done before any row runs (copy-on-write): K, V, summaries and both planes. */
  readonly copies?: readonly { readonly from: BlockId; readonly to: BlockId }[];
  /** Sequences closed before any row runs. */
  readonly close?: readonly SequenceId[];
}

export interface Logprobs {
  readonly token: number;
  readonly logprob: number;
  readonly topTokens: Int32Array;
  readonly topLogprobs: Float32Array;
}

/** A selection against the exact top-k, by the group's softmax mass, of as many tokens. Where a layer attended densely all are 1. */
export interface Quality {
  readonly layer: number;
  readonly kvHead: number;
  /** Intersection over union. */
  readonly iou: number;
  /** Share of full attention's softmax mass on the selected tokens, mean over the group's query heads. */
  readonly keptMass: number;
  /** What the exact top-k keeps. */
  readonly bestMass: number;
}

export interface RowResult {
  readonly sequence: SequenceId;
  /** The drawn token; absent when the row did not sample. */
  readonly token?: number;
  /** The logits held nothing finite (damaged weights, an overflow): the row drew nothing and its request must end with an error. */
  readonly corrupted?: true;
  readonly logprobs?: Logprobs;
  readonly promptLogprobs?: readonly Logprobs[];
  /** [layers][kvHeads] ascending positions; dense layers give an empty array. */
  readonly trace?: readonly (readonly Int32Array[])[];
  /** One entry a layer and KV head asked for. */
  readonly quality?: readonly Quality[];
}

export interface StepResult {
  readonly step: StepId;
  /** In the order of the batch's rows. */
  readonly rows: readonly RowResult[];
  readonly seconds: number;
}

export interface ArtifactInfo {
  /** SHA-256 of the file, hex: the artifact's identity. */
  readonly digest: string;
  readonly format: number;
  readonly encoder: 'linear-asym' | 'mlp';
  readonly bits: number;
  readonly headDim: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  /** Layers that carry codes, ascending. */
  readonly layers: readonly number[];
  readonly fingerprint: string;
  /** Every metadata entry of the file, as text. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What an evaluation method is. */
export interface SelectorInfo {
  readonly name: SelectorName;
  readonly paper: string;
  /** One sentence. */
  readonly rule: string;
  /** Index read a token and KV head, besides K and V: indexBits + indexBitsPerDim * headDim bits. */
  readonly indexBits: number;
  readonly indexBitsPerDim: number;
  /** Whether unselected tokens may take part as block means. */
  readonly tail: boolean;
  /** Each query head chooses, instead of a KV head's group as one. */
  readonly perQueryHead: boolean;
  /** What it leaves out it never reads again. */
  readonly evicts: boolean;
}

/** One GPU as the driver shows it; CUDA_VISIBLE_DEVICES applies. */
export interface DeviceInfo {
  /** As the CUDA runtime counts. */
  readonly index: number;
  readonly name: string;
  readonly memoryBytes: number;
  /** Absent when NVML is missing or does not say. */
  readonly freeBytes?: number;
  /** "9.0" */
  readonly computeCapability: string;
  /** The driver's version, "580.159.04"; absent when NVML is missing. */
  readonly driver?: string;
  /** Whether this build of the native module can run an engine on it; if not, `problem` says why and what to do. */
  readonly usable: boolean;
  readonly problem?: string;
}

export interface Devices {
  readonly devices: readonly DeviceInfo[];
  /** A sentence for each thing an engine on a GPU needs and that is not here: CUDA in this build, the driver, a GPU, cuBLASLt, cuDNN. */
  readonly missing: readonly string[];
}

export interface EngineStats {
  readonly steps: number;
  readonly tokens: number;
  readonly inFlight: number;
  readonly openSequences: number;
  /** Seconds the compute thread spent in steps since start. */
  readonly busySeconds: number;
  /** Tokens a sparse layer selected and tokens it could have read, summed over layers, heads and rows. */
  readonly selectedTokens: number;
  readonly contextTokens: number;
  /** Rows of the generated phase that attended densely (crossover, dense backend or no artifact). */
  readonly denseFallbackRows: number;
  readonly sparseRows: number;
}

/**
 * The engine as the worker sees it: native or fake, both pass the contract cases in test/contract.
 * No call blocks the JS thread for over 1 ms. Calls throw EngineError.
 */
export interface Engine {
  readonly info: EngineInfo;
  readonly artifacts: readonly (ArtifactInfo | undefined)[];
  /**
   * [sync] The deployment's attention settings from now on, as an artifact that was just loaded recommends them; without a crossover
   * the one in force stays. Throws INVALID_ARGUMENT by field, and while a sequence is open.
   */
  setAttention(settings: AttentionSettings): void;
  /** [sync] Opens native state for one sequence. */
  openSequence(options: SequenceOptions): SequenceId;
  /**
   * [sync] Queues one step; throws QUEUE_FULL with two in flight. A batch that throws INVALID_ARGUMENT has changed
   * nothing; a message about one row begins with "rows[i]".
   */
  submit(batch: Batch): StepId;
  /** [async] The oldest step not collected yet. Rejects with ENGINE_DEAD after a fault. */
  collect(): Promise<StepResult>;
  /** [async] Loads an artifact into a slot; refused while sequences are pinned to it. */
  loadArtifact(slot: SlotId, path: string): Promise<ArtifactInfo>;
  unloadArtifact(slot: SlotId): Promise<void>;
  /**
   * [async] Derives the codes of these blocks anew with the slot's artifact, between steps. `filled[i]` tokens of blocks[i] are valid.
   * Gives the seconds it took, waiting for steps left out.
   */
  rehash(slot: SlotId, blocks: readonly BlockId[], filled: readonly number[]): Promise<number>;
  /**
   * [async] For benchmarks, on a GPU: seeded keys and values into every slot of these blocks, between steps, with the summaries and
   * codes they lead to. A prefill of a million tokens takes minutes. Throws INVALID_ARGUMENT on a CPU.
   */
  fill(blocks: readonly BlockId[], seed: number): Promise<void>;
  stats(): EngineStats;
  /** What the weight file carries of the tokenizer; undefined for safetensors and dummy. Makes a vocabulary of strings: once, at boot. */
  tokenizerMetadata(): TokenizerMetadata | undefined;
  /** [async] Idempotent. Steps in flight finish first; uncollected results are dropped. */
  dispose(): Promise<void>;
}
