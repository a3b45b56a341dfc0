// Token log-probabilities in OpenAI's two shapes: objects for chat, parallel arrays for text completions.
// A token's bytes need not be whole UTF-8; its string shows U+FFFD there, and chat's `bytes` are exact.
import type { TokenLogprob } from '@spotlight/proto';

interface ChatTopLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: number[];
}

export interface ChatLogprobs {
  readonly content: (ChatTopLogprob & { readonly top_logprobs: ChatTopLogprob[] })[];
  readonly refusal: null;
}

export interface CompletionLogprobs {
  readonly tokens: string[];
  /** null for the first token of an echoed prompt, which nothing predicts. */
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the choice's text, in UTF-16 units. */
  readonly text_offset: number[];
}

/** JSON has no -Infinity; OpenAI writes this for "next to impossible". */
const LEAST_LOGPROB = -9999;

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

export function chatLogprobs(logprobs: readonly TokenLogprob[]): ChatLogprobs {
  const one = (token: Uint8Array, logprob: number | undefined): ChatTopLogprob => ({
    token: decoder.decode(token),
    logprob: finite(logprob ?? LEAST_LOGPROB),
    bytes: [...token],
  });
  return {
    content: logprobs.map(({ token, logprob, top }) => ({
      ...one(token, logprob),
      top_logprobs: top.map((entry) => one(entry.token, entry.logprob)),
    })),
    refusal: null,
  };
}

/** @param offset UTF-16 units of the choice's tokens before these */
export function completionLogprobs(logprobs: readonly TokenLogprob[], offset: number): CompletionLogprobs {
  const shape: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  let at = offset;
  for (const { token, logprob, top } of logprobs) {
    const text = decoder.decode(token);
    shape.tokens.push(text);
    shape.token_logprobs.push(logprob === undefined ? null : finite(logprob));
    shape.top_logprobs.push(logprob === undefined ? null : topLogprobs(text, logprob, top));
    shape.text_offset.push(at);
    at += text.length;
  }
  return shape;
}

/** The token itself is always among them, as OpenAI has it: up to one more than was asked for. */
function topLogprobs(text: string, logprob: number, top: TokenLogprob['top']): Record<string, number> {
  const entries = top.map((entry) => [decoder.decode(entry.token), finite(entry.logprob)] as const);
  return Object.fromEntries([...entries, [text, finite(logprob)]]);
}

/** Length of the tokens' text as completionLogprobs counts it. */
export function logprobTextLength(logprobs: readonly TokenLogprob[]): number {
  return logprobs.reduce((length, { token }) => length + decoder.decode(token).length, 0);
}

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : LEAST_LOGPROB;
}
