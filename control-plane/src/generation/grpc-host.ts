// The gRPC server of this process: Generation for clients, Fleet for workers, reflection and grpc.health.v1. A bare grpc-js
// server and not Nest's transport: its Observables have no back-pressure, and a paused client would fill this process.
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Server } from '@grpc/grpc-js';
import type { OnApplicationShutdown } from '@nestjs/common';
import { Inject, Injectable } from '@nestjs/common';
import { addReflection } from '@spotlight/proto/reflection';
import { Transport } from '@spotlight/proto/transport';
import { HealthImplementation } from 'grpc-health-check';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.js';

@Injectable()
export class GrpcHost implements OnApplicationShutdown {
  readonly #server: Server;
  readonly #health = new HealthImplementation({ '': 'NOT_SERVING' });
  readonly #services: string[] = [];
  #closed: Promise<void> | undefined;

  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'host' | 'grpcPort' | 'maxBody'>,
    @Inject(Transport) private readonly transport: Transport,
  ) {
    this.#server = new Server({
      'grpc.max_receive_message_length': config.maxBody,
      'grpc.max_send_message_length': -1,
      // A peer that vanished without a word is noticed within half a minute.
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 10_000,
    });
    this.#health.addToServer(this.#server);
  }

  /** @param name full name, such as "spotlight.v1.Generation"; its health starts as NOT_SERVING */
  add(name: string, definition: ServiceDefinition, handlers: UntypedServiceImplementation): void {
    this.#server.addService(definition, handlers);
    this.#services.push(name);
    this.#health.setStatus(name, 'NOT_SERVING');
  }

  setServing(name: string, serving: boolean): void {
    this.#health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  }

  /** Binds and serves. Resolves with the port in use; rejects with the system's error when it is taken. */
  listen(): Promise<number> {
    addReflection(this.#server, this.#services);
    const { host, grpcPort } = this.config;
    const bare = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(`${bare}:${grpcPort}`, this.transport.serverCredentials(), (error, port) => {
        if (error === null) resolve(port);
        else reject(error);
      });
    });
  }

  /** Lets calls end for `graceMs`, then cuts them: workers' Join streams never end by themselves. Idempotent. */
  close(graceMs: number): Promise<void> {
    return (this.#closed ??= this.#close(graceMs));
  }

  /** For a start that failed half-way; an orderly stop has closed the server before. */
  onApplicationShutdown(): Promise<void> {
    return this.close(0);
  }

  async #close(graceMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => {
        resolve();
      });
    });
    const timer = setTimeout(() => {
      this.#server.forceShutdown();
    }, graceMs);
    await closed;
    clearTimeout(timer);
  }
}
