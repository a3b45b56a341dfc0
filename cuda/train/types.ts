// The words of training: what decides an artifact's weights, what a trainer says of its steps, and the calls it takes.
import type { ModelInfo, ModelSource, TokenizerMetadata } from '../types.js';

/** All but the model and the texts that decides an artifact's weights; train/recipe.h says what each does. */
export interface Recipe {
  readonly encoder: 'linear-asym' | 'mlp';
  /** Of a code: a KV head's (linear-asym), a query head's (mlp). A multiple of 32. */
  readonly bits: number;
  /** Width of an mlp's hidden layer, a multiple of 16; linear-asym has none and ignores it. */
  readonly hidden: number;
  /** One text each. */
  readonly steps: number;
  /** Of the weights, a step. */
  readonly updates: number;
  /** Most tokens of a text. */
  readonly sequence: number;
  readonly seed: number;
  /** Share of a text's tokens that a query should find. */
  readonly budget: number;
  /** Queries an update. */
  readonly rows: number;
  /** Queries come from behind the first 1 / firstShare of the text. */
  readonly firstShare: number;
  /** Tokens drawn a query and head: of those to be found, and of all. */
  readonly top: number;
  readonly other: number;
  /** Share of the others drawn from the ranks just below those to be found. */
  readonly border: number;
  /** Keys score as the signs they are served as, and learn by the slope of a softsign. */
  readonly signKeys: boolean;
  readonly keyGamma: number;
  readonly queryGamma: number;
  /** What scores are multiplied by in the loss. */
  readonly sharpness: number;
  readonly massWeights: boolean;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Share of the updates in which the learning rate rises. */
  readonly warmup: number;
  /** Layers that get no codes, ascending. */
  readonly denseLayers: readonly number[];
}

export interface TrainerOptions {
  readonly model: ModelSource;
  readonly device?: 'cpu' | 'cuda';
  /** Default: physical cores. The result does not depend on it. */
  readonly threads?: number;
  readonly recipe: Recipe;
}

export interface TrainerInfo {
  readonly model: ModelInfo;
  /** As EngineInfo.fingerprint. */
  readonly fingerprint: string;
  readonly deviceName: string;
  readonly threads: number;
  /** Layers that get codes, ascending. */
  readonly layers: readonly number[];
  /** Values of one head's parameters and of one layer's, in TrainerState. */
  readonly headSize: number;
  readonly layerSize: number;
}

export interface TrainStep {
  /** Steps done, this one included. */
  readonly step: number;
  /** Mean over layers and updates, before each update. */
  readonly loss: number;
  readonly learningRate: number;
  /** Losses of info.layers. */
  readonly layers: Float64Array;
  readonly captureSeconds: number;
  readonly trainSeconds: number;
}

/** How well codes find the tokens with most attention, at the recipe's budget; means over heads and queries. */
export interface TrainQuality {
  /** |found and wanted| / |found or wanted| */
  readonly iou: number;
  /** Attention that the tokens found hold. */
  readonly mass: number;
  /** Of info.layers. */
  readonly layerIou: Float64Array;
  readonly layerMass: Float64Array;
}

/** All that a training is between two steps; train/layout.h says where a head's values lie. */
export interface TrainerState {
  readonly step: number;
  readonly weights: Float32Array;
  /** AdamW's moments. */
  readonly first: Float32Array;
  readonly second: Float32Array;
}

/** One call at a time. Calls throw EngineError. */
export interface Trainer {
  readonly info: TrainerInfo;
  readonly recipe: Recipe;
  tokenizerMetadata(): TokenizerMetadata | undefined;
  /** [async] Trains on one text of 64 to recipe.sequence tokens. undefined: cancelled, nothing has changed. */
  step(tokens: ArrayLike<number>): Promise<TrainStep | undefined>;
  /** [async] Over `rows` queries in the text's last eighth, with weights as an artifact stores them. undefined: cancelled. */
  measure(tokens: ArrayLike<number>, rows: number): Promise<TrainQuality | undefined>;
  /** [async] */
  save(): Promise<TrainerState>;
  /** [async] Rejects with INVALID_ARGUMENT for a state of another recipe or model. */
  load(state: TrainerState): Promise<void>;
  /** [sync] The call that runs ends soon, without effect. */
  cancel(): void;
  /** [async] Idempotent; the call that runs is cancelled. */
  dispose(): Promise<void>;
}
