// The native module's one error type. The native message is kept word for word; `code` is what callers branch on.

export const ENGINE_ERROR_CODES = [
  'INVALID_ARGUMENT', // the caller's mistake; message names the field
  'MODEL_NOT_FOUND', // no such file or folder
  'MODEL_CORRUPT', // truncated, wrong magic, sizes that do not add up
  'MODEL_UNSUPPORTED', // architecture, quantisation or RoPE scaling refused by name
  'ARTIFACT_NOT_FOUND',
  'ARTIFACT_CORRUPT', // truncated, NaN, wrong dims
  'ARTIFACT_MISMATCH', // made for another model, or wider than the code planes
  'OUT_OF_MEMORY',
  'DEVICE_UNAVAILABLE', // no such device here, or a library it needs is missing; message says which
  'QUEUE_FULL', // two steps in flight
  'ENGINE_DEAD', // a device fault; every later call rejects with the first fault's message
  'ENGINE_DISPOSED',
  'ADDON_MISSING', // the native module is not built or cannot be loaded; message says what was tried
  'INTERNAL',
] as const;

export type EngineErrorCode = (typeof ENGINE_ERROR_CODES)[number];

export class EngineError extends Error {
  override readonly name = 'EngineError';
  constructor(
    readonly code: EngineErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Wraps what the addon threw: it sets `code` on its errors; anything else is INTERNAL. */
export function toEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  const code = (error as { code?: unknown } | null)?.code;
  const known = ENGINE_ERROR_CODES.find((candidate) => candidate === code) ?? 'INTERNAL';
  return new EngineError(known, error instanceof Error ? error.message : String(error), { cause: error });
}
