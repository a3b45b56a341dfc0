// How each GGUF `tokenizer.ggml.pre` splits text before BPE: regular expressions applied one after the other.
// A name that is not listed is refused, since a near-right split gives near-right ids and silently worse text.

export interface PreTokenizerRule {
  /** Oniguruma expressions; each splits what the one before left, matches and gaps both kept. */
  readonly split: readonly string[];
  /** A word that is a whole vocabulary entry is taken as it is, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** What the file's add_bos_token is when it does not say. */
  readonly addBos: boolean;
  /** Text is brought to Unicode NFC first, as the Hugging Face tokenizer of the family does. */
  readonly nfc: boolean;
}

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const llama3 = (digits: string): string =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const TEKKEN =
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|' +
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|' +
  '\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const plain: PreTokenizerRule = { split: [GPT2], ignoreMerges: false, addBos: false, nfc: false };
const singleDigits: PreTokenizerRule = { ...plain, split: ['\\p{N}', GPT2] };
// ASCII digits only: transformers, whose ids are the reference, leaves "½" with the blank before it.
const smollm: PreTokenizerRule = { ...plain, split: ['[0-9]', GPT2] };
const llamaBpe: PreTokenizerRule = {
  split: [llama3('\\p{N}{1,3}')],
  ignoreMerges: true,
  addBos: true,
  nfc: false,
};
const qwen2: PreTokenizerRule = { split: [llama3('\\p{N}')], ignoreMerges: false, addBos: false, nfc: true };

const RULES: ReadonlyMap<string, PreTokenizerRule> = new Map([
  ['gpt-2', plain],
  ['default', plain],
  ['mpt', plain],
  ['olmo', plain],
  ['phi-2', plain],
  ['smollm', smollm],
  ['starcoder', singleDigits],
  ['refact', singleDigits],
  ['command-r', singleDigits],
  ['codeshell', singleDigits],
  ['exaone', singleDigits],
  ['llama3', llamaBpe],
  ['llama-v3', llamaBpe],
  ['llama-bpe', llamaBpe],
  ['falcon3', llamaBpe],
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', { ...qwen2, nfc: false }],
  ['megrez', { ...qwen2, nfc: false }],
  ['tekken', { split: [TEKKEN], ignoreMerges: true, addBos: true, nfc: false }],
]);

/** Every split expression known; text may be cut where none of them has a letter before white space. */
export const KNOWN_SPLITS: ReadonlySet<string> = new Set([...RULES.values()].flatMap((rule) => rule.split));

/** The rule of a name, or undefined; no name at all means gpt-2's split, as files older than the field have it. */
export function preTokenizerRule(name: string | undefined): PreTokenizerRule | undefined {
  return RULES.get(name ?? 'default');
}

export const PRE_TOKENIZER_NAMES: readonly string[] = [...RULES.keys()];
