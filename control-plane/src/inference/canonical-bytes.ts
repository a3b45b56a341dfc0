// A prompt as the bytes that prefix affinity hashes (routing/hash.ts). They need not equal the model's input, only begin
// alike exactly when prompts do: tokenising stays in the worker. What follows the prompt (sampling, ids) has no part in it.
import type { ChatPrompt } from '@spotlight/proto';
import type { Prompt } from './generation-request.js';

export function canonicalBytes(prompt: Prompt): Uint8Array {
  switch (prompt.$case) {
    case 'text':
      return Buffer.from(prompt.value);
    case 'tokenIds':
      return new Uint8Array(Uint32Array.from(prompt.value.ids).buffer);
    case 'chat':
      return chatBytes(prompt.value);
  }
}

/** Messages in order; fields end with a byte that UTF-8 never holds, so no text can look like the next field. */
function chatBytes(chat: ChatPrompt): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { role, name, content } of chat.messages) {
    for (const field of [role, name, content]) parts.push(Buffer.from(field), FIELD_END);
  }
  return Buffer.concat(parts);
}

const FIELD_END = Uint8Array.of(0xff);
