package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"io"
	"os"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name       string
	content    []byte
	executable bool
}

func (e entry) mode() int64 {
	if e.executable {
		return 0o755
	}
	return 0o644
}

// writeTar writes files below a directory into a compressed archive, in which
// nothing tells who wrote it and when.
func writeTar(path, dir string, files []entry, at time.Time) error {
	return create(path, func(w io.Writer) error {
		packed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		archive := tar.NewWriter(packed)
		for _, f := range files {
			header := &tar.Header{Name: dir + "/" + f.name, Mode: f.mode(), Size: int64(len(f.content)), ModTime: at, Format: tar.FormatUSTAR}
			if err := archive.WriteHeader(header); err != nil {
				return err
			}
			if _, err := archive.Write(f.content); err != nil {
				return err
			}
		}
		if err := archive.Close(); err != nil {
			return err
		}
		return packed.Close()
	})
}

func writeZip(path, dir string, files []entry, at time.Time) error {
	return create(path, func(w io.Writer) error {
		archive := zip.NewWriter(w)
		for _, f := range files {
			header := &zip.FileHeader{Name: dir + "/" + f.name, Method: zip.Deflate, Modified: at}
			header.SetMode(os.FileMode(f.mode()))
			part, err := archive.CreateHeader(header)
			if err != nil {
				return err
			}
			if _, err := part.Write(f.content); err != nil {
				return err
			}
		}
		return archive.Close()
	})
}

func writeFile(path string, content []byte) error {
	return create(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

func create(path string, write func(io.Writer) error) error {
	file, err := os.Create(path) //nolint:gosec // named by who releases
	if err != nil {
		return err
	}
	if err := write(file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}
