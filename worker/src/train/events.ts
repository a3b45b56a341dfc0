// What a training says as it goes: the lines of its log and of --json.

export type TrainEvent =
  | {
      readonly event: 'start';
      readonly model: string;
      readonly fingerprint: string;
      readonly device: string;
      readonly threads: number;
      readonly encoder: string;
      readonly bits: number;
      readonly layers: number;
      readonly steps: number;
      /** Steps done before: above 0 when resumed. */
      readonly step: number;
      readonly tokensAStep: number;
      /** Texts of the corpus, without those kept out. */
      readonly texts: number;
      readonly corpusDigest: string;
    }
  | {
      readonly event: 'step';
      readonly step: number;
      readonly loss: number;
      readonly learningRate: number;
      readonly tokens: number;
      readonly seconds: number;
      readonly captureSeconds: number;
      readonly trainSeconds: number;
    }
  | {
      /** At a step: over texts that are never trained on. */
      readonly event: 'quality';
      readonly step: number;
      readonly iou: number;
      readonly mass: number;
      readonly layerIou: readonly number[];
      readonly layerMass: readonly number[];
      readonly texts: number;
    }
  | { readonly event: 'stopped'; readonly step: number; readonly checkpoint: string }
  | {
      readonly event: 'artifact';
      readonly step: number;
      readonly path: string;
      readonly digest: string;
      readonly iou: number;
      readonly mass: number;
    };

export type Say = (event: TrainEvent) => void;
