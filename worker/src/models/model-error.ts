// What can go wrong before there is a model to load. One sentence a person can act on; `code` is what tests and scripts read.

export type ModelErrorCode =
  | 'NOT_FOUND' // no such file, folder, repository or file in it
  | 'NO_PIP' // python3 or its pip is not installed
  | 'UNREACHABLE' // package index or hub cannot be reached
  | 'REFUSED' // the hub answered, and said no
  | 'NO_SPACE' // the disk is full
  | 'HASH_MISMATCH' // the bytes are not those that were promised
  | 'FAILED';

export class ModelError extends Error {
  override readonly name = 'ModelError';
  constructor(
    readonly code: ModelErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export function noSpace(folder: string, cause?: unknown): ModelError {
  return new ModelError(
    'NO_SPACE',
    `no space left on the disk of ${folder}: make room, or choose another folder by --cache (SPOTLIGHT_CACHE)`,
    { cause },
  );
}

/** Turns a full disk into NO_SPACE; everything else passes as it is. */
export function asModelError(error: unknown, folder: string): unknown {
  return (error as NodeJS.ErrnoException | null)?.code === 'ENOSPC' ? noSpace(folder, error) : error;
}
