// Starts the control plane and stops it again. Order: database opening in the background, doors bound, the first key made; the
// doors serve meanwhile, and whoever needs a row waits. Stopping: not ready, running requests end, doors close, database last.
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NestApplicationOptions } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ErrorCode, FleetService, GenerationService } from '@spotlight/proto';
import { Transport, TransportError } from '@spotlight/proto/transport';
import 'reflect-metadata';
import { AppModule } from './app.module.js';
import { ArtifactDoor } from './artifacts/fetch.js';
import { FirstAdminKey } from './auth/first-admin-key.js';
import type { Config } from './config/config.js';
import { bindError } from './errors/bind-error.js';
import { ServiceError } from './errors/service-error.js';
import { checkPorts } from './free-ports.js';
import { GenerationHandlers } from './generation/generation.handlers.js';
import { GrpcHost } from './generation/grpc-host.js';
import { InferenceService } from './inference/inference.service.js';
import { jsonBody } from './openai/json-body.js';
import { createLog, logGrpc, nestLogger } from './telemetry/log.js';
import { Readiness } from './telemetry/readiness.js';
import { RequestLog } from './telemetry/request-log.js';
import type { WorkerFleet } from './workers/api.js';
import { WORKER_FLEET } from './workers/api.js';
import { FleetService as FleetDoor } from './workers/fleet.service.js';

/** A proxy in front keeps connections for 60 s as a rule; ours must outlive them, or it resets requests on their way. */
const KEEP_ALIVE_MS = 75_000;
/** Join streams never end by themselves; workers rejoin elsewhere as soon as theirs is cut. */
const GRPC_GRACE_MS = 200;
/** For the last bytes of answers that have ended. */
const HTTP_GRACE_MS = 1000;

export interface ControlPlane {
  readonly httpUrl: string;
  /** host:port */
  readonly grpcAddress: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  /** Made at the very first start and never shown again. */
  readonly newAdminKey: string | undefined;
  readonly fleet: WorkerFleet;
  /** Resolves when the first worker can take requests; never rejects. */
  readonly ready: Promise<void>;
  /** Drains for up to config.drainTimeout, then ends everything. Idempotent. */
  close(): Promise<void>;
}

/**
 * [async] Rejects with a ServiceError that says what to do: a port in use, a data folder that cannot be used.
 * @param onDoors called when both doors are bound, with the gRPC door's port: workers may join while the database still opens
 */
export async function startControlPlane(
  config: Config,
  onDoors: (grpcPort: number) => void = () => undefined,
): Promise<ControlPlane> {
  const { host } = config;
  await checkPorts([
    { door: 'HTTP', host, port: config.httpPort },
    { door: 'gRPC', host, port: config.grpcPort },
  ]);
  const transport = loadTransport(config);
  const https = transport.httpsOptions();
  const log = createLog(config.logLevel);
  logGrpc(log);
  const options: Pick<NestApplicationOptions, 'bodyParser' | 'logger' | 'abortOnError' | 'httpsOptions'> = {
    ...(https === undefined ? {} : { httpsOptions: https }),
    bodyParser: false,
    logger: nestLogger(log),
    abortOnError: false,
  };
  const app = await NestFactory.create<NestExpressApplication>(
    AppModule.forRoot(config, log, transport),
    options,
  );
  try {
    return await listen(app, config, onDoors);
  } catch (error) {
    await app.close();
    throw error;
  }
}

async function listen(
  app: NestExpressApplication,
  config: Config,
  onDoors: (grpcPort: number) => void,
): Promise<ControlPlane> {
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(app.get(RequestLog).middleware);
  app.use(jsonBody(config.maxBody));

  const grpc = app.get(GrpcHost);
  const fleet = app.get<WorkerFleet>(WORKER_FLEET);
  grpc.add('spotlight.v1.Generation', GenerationService, app.get(GenerationHandlers).handlers);
  grpc.add('spotlight.v1.Fleet', FleetService, {
    ...app.get(FleetDoor).handlers(),
    ...app.get(ArtifactDoor).handlers(),
  });

  const grpcPort = await grpc.listen().catch((error: unknown) => {
    throw bindError('gRPC', config.host, config.grpcPort, error);
  });
  await app.listen(config.httpPort, config.host).catch((error: unknown) => {
    throw bindError('HTTP', config.host, config.httpPort, error);
  });
  const scheme = app.get(Transport).serves ? 'https' : 'http';
  const server = app.getHttpServer();
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the HTTP server has no port');

  grpc.setServing('', true);
  grpc.setServing('spotlight.v1.Fleet', true);
  const ready = followHealth(fleet, grpc);
  onDoors(grpcPort);

  let newAdminKey: string | undefined;
  await app.get(FirstAdminKey).ensure((key) => {
    newAdminKey = key;
  });

  let closing: Promise<void> | undefined;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return {
    httpUrl: `${scheme}://${host}:${address.port}`,
    grpcAddress: `${host}:${grpcPort}`,
    httpPort: address.port,
    grpcPort,
    newAdminKey,
    fleet,
    ready,
    close: () => (closing ??= close(app, config)),
  };
}

function loadTransport(config: Config): Transport {
  try {
    return Transport.load(config);
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    throw new ServiceError(ErrorCode.FAILED_PRECONDITION, error.message, { cause: error });
  }
}

async function close(app: NestExpressApplication, config: Config): Promise<void> {
  const grpc = app.get(GrpcHost);
  app.get(Readiness).drain();
  grpc.setServing('', false);
  grpc.setServing('spotlight.v1.Generation', false);
  await app.get(InferenceService).drain(config.drainTimeout);
  await grpc.close(GRPC_GRACE_MS);
  // A connection opened ahead and never used counts as busy for a minute; nobody is answered on it any more.
  const server = app.getHttpServer();
  const timer = setTimeout(() => {
    server.closeAllConnections();
  }, HTTP_GRACE_MS);
  await app.close();
  clearTimeout(timer);
}

/** Generation is SERVING while a worker can take requests. Resolves at the first. */
function followHealth(fleet: WorkerFleet, grpc: GrpcHost): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      const serving = fleet.snapshots().some(({ state }) => state === 'ready' || state === 'degraded');
      grpc.setServing('spotlight.v1.Generation', serving);
      if (serving) resolve();
    };
    fleet.onChange(check);
    check();
  });
}
