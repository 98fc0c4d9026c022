import { execFileSync } from "node:child_process";
import { join } from "node:path";
// The loader's import registers the descriptor types that the options of csi.proto extend.
import "@grpc/proto-loader";
import protobuf from "protobufjs";
import { describeNeeding } from "../support/needs.js";

/** Mirrors the output of descriptor/main.go. */
interface Interface {
  readonly messages: Record<string, object>;
  readonly enums: Record<string, object>;
  readonly services: Record<string, Record<string, object>>;
}

/** The official descriptor, or why it cannot be had. Read while tests are collected: only then can they be skipped. */
function official(): { readonly value?: Interface; readonly reason: string } {
  try {
    const cwd = join(process.cwd(), "test", "sanity", "descriptor");
    const output = execFileSync("go", ["run", "."], { cwd, timeout: 300_000, stdio: ["ignore", "pipe", "pipe"] });
    return { value: JSON.parse(output.toString()) as Interface, reason: "" };
  } catch (error) {
    return { reason: error instanceof Error ? error.message.slice(0, 300) : String(error) };
  }
}

const flag = (object: protobuf.ReflectionObject, name: string): boolean => object.getOption(`(${name})`) === true;

function fullName(object: protobuf.ReflectionObject): string {
  return object.fullName.replace(/^\./, "");
}

function describeField(field: protobuf.Field): object {
  return {
    number: field.id,
    type: field.resolvedType === null ? field.type : fullName(field.resolvedType),
    repeated: field.repeated,
    ...(field instanceof protobuf.MapField ? { mapKey: field.keyType } : {}),
    ...(field.partOf === null ? {} : { oneof: field.partOf.name }),
    secret: flag(field, "csi_secret"),
    alpha: flag(field, "alpha_field"),
  };
}

function reservedNumbers(reserved: readonly (number[] | string)[] | undefined): number[] {
  return (reserved ?? []).flatMap((range) => {
    const [first = 0, last = -1] = typeof range === "string" ? [] : range;
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

function describeEnum(type: protobuf.Enum): object {
  const values = Object.entries(type.values).map(([name, number]) => {
    const alpha = type.valuesOptions?.[name]?.["(alpha_enum_value)"] === true;
    return [name, { number, alpha }] as const;
  });
  return { reserved: reservedNumbers(type.reserved), values: Object.fromEntries(values) };
}

function describeService(service: protobuf.Service): Record<string, object> {
  return Object.fromEntries(
    service.methodsArray.map((method) => [
      method.name,
      {
        request: fullName(method.resolvedRequestType!),
        response: fullName(method.resolvedResponseType!),
        requestStream: method.requestStream === true,
        responseStream: method.responseStream === true,
        alpha: flag(method, "alpha_method"),
      },
    ]),
  );
}

/** Our own declaration, in the same shape. */
function own(): Interface {
  const path = join(process.cwd(), "proto", "csi", "v1", "csi.proto");
  const root = new protobuf.Root().loadSync(path, { keepCase: true }).resolveAll();
  const result: Interface = { messages: {}, enums: {}, services: {} };
  const visit = (namespace: protobuf.NamespaceBase): void => {
    for (const object of namespace.nestedArray) {
      const name = fullName(object);
      if (object instanceof protobuf.Type) {
        const fields = Object.fromEntries(object.fieldsArray.map((field) => [field.name, describeField(field)]));
        const reserved = reservedNumbers(object.reserved);
        result.messages[name] = { alpha: flag(object, "alpha_message"), reserved, fields };
        visit(object);
      } else if (object instanceof protobuf.Enum) {
        result.enums[name] = describeEnum(object);
      } else if (object instanceof protobuf.Service) {
        result.services[name] = describeService(object);
      }
    }
  };
  visit(root.lookup("csi.v1") as protobuf.Namespace);
  return result;
}

describeNeeding(["go"], "our declaration of the CSI interface and the official one, v1.13.0", () => {
  const { value, reason } = official();
  if (value === undefined) {
    it.skip(`are the same [skipped: the descriptor cannot be built: ${reason}]`, () => undefined);
    return;
  }
  const mine = own();

  it("have the same services, methods and streams", () => {
    expect(mine.services).toEqual(value.services);
    expect(Object.values(mine.services).flatMap((methods) => Object.keys(methods))).toHaveLength(36);
  });

  it("have the same messages: every field's name, number, type, label and options", () => {
    expect(Object.keys(mine.messages).sort()).toEqual(Object.keys(value.messages).sort());
    expect(mine.messages).toEqual(value.messages);
  });

  it("have the same enumerations", () => {
    expect(mine.enums).toEqual(value.enums);
  });
});
