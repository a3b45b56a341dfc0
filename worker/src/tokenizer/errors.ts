// What goes wrong in this room: a model whose tokenizer cannot be served (at start), and a prompt that cannot be encoded.
import { ErrorCode } from '@spotlight/proto';

/** The model's tokenizer files are missing, broken or of a kind not supported; stops the start. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';
}

/** The caller's prompt cannot be encoded; `field` names the part of the request at fault. */
export class PromptError extends Error {
  override readonly name = 'PromptError';
  constructor(
    readonly field: string,
    message: string,
    readonly code: ErrorCode.INVALID_ARGUMENT | ErrorCode.PROMPT_TOO_LONG = ErrorCode.INVALID_ARGUMENT,
  ) {
    super(message);
  }
}
