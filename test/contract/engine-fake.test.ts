// The fake engine keeps the contract, so that what policy tests prove on it holds on the native one.
import { FakeEngine } from '../fakes/engine.js';
import { engineContract } from './engine.js';

engineContract('fake', (options) => Promise.resolve(new FakeEngine(options)));
