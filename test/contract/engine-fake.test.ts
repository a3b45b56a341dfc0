// The fake engine keeps the contract, so that what policy tests prove on it holds on the native one.
import { FakeEngine } from '../fakes/engine.js';
import { corruptionContract, POISON } from './engine-corruption.js';
import { engineContract } from './engine.js';

engineContract('fake', (options) => Promise.resolve(new FakeEngine(options)));
corruptionContract('fake', (options) =>
  Promise.resolve(
    new FakeEngine({ ...options, damages: ({ tokens }) => Array.from(tokens).includes(POISON) }),
  ),
);
