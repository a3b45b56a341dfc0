// A tokenizer for dummy weights, which have none: bytes are ids 0 to 255, every further id has a text of its own.
// It loses nothing and needs no file, so that any shape can be served and benchmarked as a real model is.
import type { TokenizerDefinition } from './definition.js';
import { BYTE_CHARACTERS } from './byte-table.js';
import { definitionFromGguf } from './from-gguf.js';

const TEMPLATE =
  "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";

export function dummyDefinition(vocabSize: number, source: string): TokenizerDefinition {
  const tokens = Array.from({ length: vocabSize }, (_, id) => BYTE_CHARACTERS[id] ?? `Ġ#${id}`);
  return definitionFromGguf(
    { model: 'gpt2', pre: 'gpt-2', tokens, merges: [], chatTemplate: TEMPLATE },
    source,
  );
}
