// Prints the official CSI file descriptor as JSON, in the shape csi-proto.system.test.ts compares with our own:
// names, numbers, types, labels, oneofs, reserved numbers, streaming flags and the options of the interface.
package main

import (
	"encoding/json"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

type field struct {
	Number   int    `json:"number"`
	Type     string `json:"type"`
	Repeated bool   `json:"repeated"`
	MapKey   string `json:"mapKey,omitempty"`
	Oneof    string `json:"oneof,omitempty"`
	Secret   bool   `json:"secret"`
	Alpha    bool   `json:"alpha"`
}

type enumValue struct {
	Number int  `json:"number"`
	Alpha  bool `json:"alpha"`
}

type method struct {
	Request        string `json:"request"`
	Response       string `json:"response"`
	RequestStream  bool   `json:"requestStream"`
	ResponseStream bool   `json:"responseStream"`
	Alpha          bool   `json:"alpha"`
}

type message struct {
	Alpha    bool             `json:"alpha"`
	Reserved []int            `json:"reserved"`
	Fields   map[string]field `json:"fields"`
}

type enum struct {
	Reserved []int                `json:"reserved"`
	Values   map[string]enumValue `json:"values"`
}

type output struct {
	Messages map[string]message           `json:"messages"`
	Enums    map[string]enum              `json:"enums"`
	Services map[string]map[string]method `json:"services"`
}

var out = output{map[string]message{}, map[string]enum{}, map[string]map[string]method{}}

func flag(options proto.Message, extension protoreflect.ExtensionType) bool {
	return proto.HasExtension(options, extension) && proto.GetExtension(options, extension).(bool)
}

func typeName(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return string(fd.Message().FullName())
	case protoreflect.EnumKind:
		return string(fd.Enum().FullName())
	default:
		return fd.Kind().String()
	}
}

func describeField(fd protoreflect.FieldDescriptor) field {
	described := field{
		Number:   int(fd.Number()),
		Type:     typeName(fd),
		Repeated: fd.IsList(),
		Secret:   flag(fd.Options(), csi.E_CsiSecret),
		Alpha:    flag(fd.Options(), csi.E_AlphaField),
	}
	if fd.IsMap() {
		described.MapKey = typeName(fd.MapKey())
		described.Type = typeName(fd.MapValue())
	}
	if fd.ContainingOneof() != nil {
		described.Oneof = string(fd.ContainingOneof().Name())
	}
	return described
}

func addMessages(descriptors protoreflect.MessageDescriptors) {
	for i := 0; i < descriptors.Len(); i++ {
		md := descriptors.Get(i)
		if md.IsMapEntry() {
			continue
		}
		described := message{Alpha: flag(md.Options(), csi.E_AlphaMessage), Reserved: []int{}, Fields: map[string]field{}}
		for r := 0; r < md.ReservedRanges().Len(); r++ {
			span := md.ReservedRanges().Get(r)
			for n := span[0]; n < span[1]; n++ {
				described.Reserved = append(described.Reserved, int(n))
			}
		}
		for f := 0; f < md.Fields().Len(); f++ {
			fd := md.Fields().Get(f)
			described.Fields[string(fd.Name())] = describeField(fd)
		}
		out.Messages[string(md.FullName())] = described
		addMessages(md.Messages())
		addEnums(md.Enums())
	}
}

func addEnums(descriptors protoreflect.EnumDescriptors) {
	for i := 0; i < descriptors.Len(); i++ {
		ed := descriptors.Get(i)
		described := enum{Reserved: []int{}, Values: map[string]enumValue{}}
		for r := 0; r < ed.ReservedRanges().Len(); r++ {
			// Unlike a message's, an enumeration's range includes its end.
			span := ed.ReservedRanges().Get(r)
			for n := span[0]; n <= span[1]; n++ {
				described.Reserved = append(described.Reserved, int(n))
			}
		}
		for v := 0; v < ed.Values().Len(); v++ {
			vd := ed.Values().Get(v)
			described.Values[string(vd.Name())] = enumValue{int(vd.Number()), flag(vd.Options(), csi.E_AlphaEnumValue)}
		}
		out.Enums[string(ed.FullName())] = described
	}
}

func main() {
	file := csi.File_csi_proto
	addMessages(file.Messages())
	addEnums(file.Enums())
	for i := 0; i < file.Services().Len(); i++ {
		sd := file.Services().Get(i)
		methods := map[string]method{}
		for m := 0; m < sd.Methods().Len(); m++ {
			md := sd.Methods().Get(m)
			methods[string(md.Name())] = method{
				Request:        string(md.Input().FullName()),
				Response:       string(md.Output().FullName()),
				RequestStream:  md.IsStreamingClient(),
				ResponseStream: md.IsStreamingServer(),
				Alpha:          flag(md.Options(), csi.E_AlphaMethod),
			}
		}
		out.Services[string(sd.FullName())] = methods
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		panic(err)
	}
}
