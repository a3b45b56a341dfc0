// What a fake worker answers to one request: tokens, their pace, and the fault that ends them. The default is a pure function
// of the submit (seed, prompt, choice), so the same request gives the same text from any fake, as a real model's would.
import { hash } from 'node:crypto';
import type { Submit } from '@spotlight/proto';
import { FinishReason } from '@spotlight/proto';

export interface FakeToken {
  readonly id: number;
  /** Text of this token, '' while a code point is incomplete; a function is asked when the token is sent. */
  readonly text: string | (() => string);
}

export interface Script {
  readonly promptTokens: number;
  /** By choice. */
  readonly choices: readonly (readonly FakeToken[])[];
  readonly finish: FinishReason.STOP | FinishReason.LENGTH;
  /** Steps before the first token, as a prefill takes. */
  readonly delaySteps?: number;
}

export type Scripted = (submit: Submit) => Script;

const WORDS = [
  'alpha',
  'beta',
  'gamma',
  'delta',
  'épsilon',
  'zeta',
  'eta',
  'θ',
  'iota',
  '漢字',
  'lambda',
  '🙂',
];

/** Characters per token of the fakes' tokenizer. */
const TOKEN_CHARS = 4;

export function promptText(prompt: Submit['prompt']): string {
  switch (prompt?.$case) {
    case 'text':
      return prompt.value;
    case 'tokenIds':
      return prompt.value.ids.join(' ');
    case 'chat':
      return prompt.value.messages.map(({ role, content }) => `${role}: ${content}\n`).join('');
    case undefined:
      return '';
  }
}

/** Ids and bytes of a text, cut every TOKEN_CHARS characters. */
export function fakeTokens(text: string): { id: number; bytes: Buffer }[] {
  const characters = Array.from(text);
  const tokens: { id: number; bytes: Buffer }[] = [];
  for (let start = 0; start < characters.length; start += TOKEN_CHARS) {
    const piece = characters.slice(start, start + TOKEN_CHARS).join('');
    tokens.push({ id: checksum(piece) % 49_152, bytes: Buffer.from(piece) });
  }
  return tokens;
}

/** How many they are, without making them: a benchmark must not measure the fake's hashes. */
export function fakeTokenCount(text: string): number {
  let characters = text.length;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) characters--;
  return Math.ceil(characters / TOKEN_CHARS);
}

/** `max_tokens` words (16 when absent), chosen by seed, prompt and choice. */
export function words(submit: Submit): Script {
  const { n = 1, maxTokens = 16, seed = 0n } = submit.sampling ?? {};
  const text = promptText(submit.prompt);
  const choices = Array.from({ length: n }, (_, choice) => {
    const start = checksum(`${seed}/${choice}/${text}`);
    return Array.from({ length: maxTokens }, (_, index): FakeToken => {
      const word = checksum(`${start}/${index}`) % WORDS.length;
      return { id: 1000 + word, text: `${index === 0 ? '' : ' '}${WORDS[word] ?? ''}` };
    });
  });
  return { promptTokens: fakeTokens(text).length, choices, finish: FinishReason.LENGTH };
}

function checksum(text: string): number {
  return hash('sha1', text, 'buffer').readUInt32BE(0);
}
